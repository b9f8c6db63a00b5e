//! The way back through a call: layers from the last to the first, each in two phases.
//!
//! First the time loop, from the last computed step to the first: it turns the derivatives by `h` and `c`
//! into those by the gates' sums, of all rows of all steps ("deltas"). Then large products of these: with what the
//! weights were multiplied with they are the gradients of the weights, with the weights that of the
//! layer's input.
#![allow(unsafe_code, reason = "results are shared out among threads")]

mod dispatch;
mod products;
mod scan;
mod transposed;

use core::ops::Range;

#[allow(unreachable_pub, reason = "named by a method of a public trait")]
pub use dispatch::BackWork;
pub(crate) use transposed::Transposed;

use crate::buffer::Buffer;
use crate::cuts::Cuts;
use crate::kernel::outer::Panels;
use crate::rnn::Shared;
use crate::rows::{Batch, RowsIn, RowsOut};
use crate::saved::Saved;
use crate::{Element, threads};
use products::{InputGradient, Rows, WeightGradient};
use scan::{BackCarry, BackScan};
use transposed::Deltas;

/// A backward call with everything checked, in terms of rows. All gradients are added to what is there.
pub(crate) struct BackJob<'a, E> {
    pub(crate) batch: Batch<'a>,
    pub(crate) saved: &'a Saved<E>,
    pub(crate) dropout: bool,
    pub(crate) input: RowsIn<'a, E>,
    /// The derivatives to begin with; zeros if none. Of states, the step stands for layer and direction.
    pub(crate) d_output: Option<RowsIn<'a, E>>,
    pub(crate) d_h_n: Option<RowsIn<'a, E>>,
    pub(crate) d_c_n: Option<RowsIn<'a, E>>,
    pub(crate) d_input: Option<RowsOut<'a, E>>,
    /// Of `h_0`, `c_0`, and of the states after cuts.
    pub(crate) d_states: [Option<RowsOut<'a, E>>; 4],
    /// In the order of [`Config::parameters`](crate::Config::parameters), rows of step 0.
    pub(crate) parameters: Vec<Option<RowsOut<'a, E>>>,
}

/// What the way back works in.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackMemory<E> {
    /// By the gates' sums of all steps, one per direction.
    deltas: [Buffer<E>; 2],
    /// By the results of projections, one per direction.
    projected: [Buffer<E>; 2],
    /// By the output of the layer below: `[rows of all steps, D*P]`.
    between: Buffer<E>,
    tasks: Vec<BackTask<E>>,
}

/// The buffers of one thread.
#[derive(Clone, Debug, Default)]
struct BackTask<E> {
    carry: BackCarry<E>,
    panels: Panels<E>,
    scratch: Buffer<E>,
}

impl<E: Element> Shared<E> {
    /// Runs a checked call.
    pub(crate) fn run_back(&self, job: BackJob<'_, E>, memory: &mut BackMemory<E>) {
        let (config, batch) = (&self.config, job.batch);
        let total = batch.rows_before(batch.steps());
        let form = Deltas::of::<E>(config);
        let width = config.num_directions() * config.output_size();
        let BackMemory { deltas, projected, between, tasks } = memory;
        let needs_between = config.num_layers > 1;
        between.reserve(if needs_between { total * width } else { 0 });
        let [deltas_0, deltas_1] = deltas;
        let [projected_0, projected_1] = projected;
        let (second, stride) = (usize::from(config.bidirectional), config.proj_size);
        let call = BackCall {
            shared: self,
            form,
            deltas: [
                rows(deltas_0, &batch, form.stride),
                rows(deltas_1, &batch, second * form.stride),
            ],
            projected: [
                rows(projected_0, &batch, stride),
                rows(projected_1, &batch, second * stride),
            ],
            between: needs_between.then(|| RowsOut::packed(between, &batch, width)),
            job,
        };
        let lowest = call.lowest_layer();
        for layer in (lowest..config.num_layers).rev() {
            call.scans(layer, tasks);
            let d_input = match layer {
                0 => call.job.d_input,
                _ if layer == lowest => None,
                _ => call.between,
            };
            if layer > 0
                && let Some(between) = d_input
            {
                // SAFETY: nothing else is running; the time loops that read it are done.
                unsafe { core::slice::from_raw_parts_mut(between.place(0, 0), total * width) }
                    .fill(E::ZERO);
            }
            call.products(layer, d_input, tasks);
        }
    }
}

/// Rows of `width` elements in `buffer`, of all steps.
fn rows<'a, E: Element>(
    buffer: &'a mut Buffer<E>,
    batch: &Batch<'a>,
    width: usize,
) -> RowsOut<'a, E> {
    buffer.reserve(batch.rows_before(batch.steps()) * width);
    RowsOut::packed(buffer, batch, width)
}

/// What all threads of a call share.
struct BackCall<'a, E> {
    shared: &'a Shared<E>,
    form: Deltas,
    job: BackJob<'a, E>,
    deltas: [RowsOut<'a, E>; 2],
    projected: [RowsOut<'a, E>; 2],
    between: Option<RowsOut<'a, E>>,
}

impl<'a, E: Element> BackCall<'a, E> {
    /// The lowest layer of which something is wanted, or that something wanted depends on.
    fn lowest_layer(&self) -> usize {
        let config = &self.shared.config;
        if self.job.d_input.is_some() || self.job.d_states.iter().any(Option::is_some) {
            return 0;
        }
        let each = config.direction_parameters(0).len() * config.num_directions();
        let wanted = self.job.parameters.iter().position(Option::is_some);
        wanted.map_or(config.num_layers, |first| first / each)
    }

    /// The gradients of the parameters of the `index`-th layer and direction.
    fn parameters(&self, index: usize) -> &[Option<RowsOut<'a, E>>] {
        let each = self.shared.config.direction_parameters(0).len();
        self.job.parameters.get(index * each..(index + 1) * each).unwrap_or_default()
    }

    /// The parameters of the `index`-th layer and direction.
    fn weights(&self, index: usize) -> &'a [crate::Tensor<E>] {
        let each = self.shared.config.direction_parameters(0).len();
        &self.shared.parameters[index * each..(index + 1) * each]
    }

    /// Runs the time loops of `layer`: directions and rows on different threads.
    fn scans(&self, layer: usize, tasks: &mut Vec<BackTask<E>>) {
        let config = &self.shared.config;
        let (batch, directions) = (&self.job.batch, config.num_directions());
        let total = batch.rows_before(batch.steps());
        let work = self.shared.work(total) / config.num_layers;
        let parts = threads::parts(batch.rows(), work);
        let count = directions * parts.len();
        tasks.resize_with(tasks.len().max(count), BackTask::default);
        threads::for_each(&mut tasks[..count], |k, task| {
            let (direction, rows) = (k / parts.len(), parts.range(k % parts.len()));
            // SAFETY: the parts have different rows or directions.
            unsafe { self.scan(layer, direction, rows, task) }
        });
    }

    /// Runs the time loop of one direction of `layer` for the sequences `rows`.
    ///
    /// # Safety
    /// No other thread may run these rows of this direction at the same time.
    unsafe fn scan(
        &self,
        layer: usize,
        direction: usize,
        rows: Range<usize>,
        task: &mut BackTask<E>,
    ) {
        let Shared { config, level, directions, .. } = self.shared;
        let (job, lanes, size) = (&self.job, E::lanes(*level), config.output_size());
        let index = layer * config.num_directions() + direction;
        let packed = &directions[index];
        let d_output = if layer + 1 == config.num_layers {
            job.d_output
        } else {
            // SAFETY: the layer above is done.
            self.between.map(|between| unsafe { between.reader() })
        };
        let (weights, saved) = (self.weights(index), job.saved);
        let scan = BackScan {
            direction: packed,
            w_hh: packed.transposed.w_hh(weights, &self.form, lanes),
            w_hr: packed.w_hr.as_ref().map(|_| packed.transposed.w_hr(weights, lanes)),
            form: self.form,
            batch: job.batch,
            reverse: direction == 1,
            saved: &saved.scans[index],
            d_output: d_output.map(|d_output| d_output.columns(direction * size, size)),
            cuts: (!saved.cuts.is_empty()).then(|| Cuts::new(job.batch, &saved.cuts)),
            deltas: self.deltas[direction],
            d_projected: packed.w_hr.as_ref().map(|_| self.projected[direction]),
        };
        let carry = &mut task.carry;
        carry.load(packed, config.mode, index, rows.clone(), job.d_h_n, job.d_c_n);
        // SAFETY: the caller's.
        unsafe {
            scan.run(config.mode, *level, 0..job.batch.steps(), rows.clone(), carry);
            carry.add_to(packed, index, rows, &job.d_states);
        }
    }

    /// Computes the products of `layer`: units of the weights and rows of the input on different threads.
    fn products(
        &self,
        layer: usize,
        d_input: Option<RowsOut<'a, E>>,
        tasks: &mut Vec<BackTask<E>>,
    ) {
        let config = &self.shared.config;
        let total = self.job.batch.rows_before(self.job.batch.steps());
        let work = 2 * self.shared.work(total) / config.num_layers;
        let parts = threads::parts(config.hidden_size.max(2), work).len();
        tasks.resize_with(tasks.len().max(parts), BackTask::default);
        threads::for_each(&mut tasks[..parts], |k, task| {
            let part = |count: usize| count * k / parts..count * (k + 1) / parts;
            for direction in 0..config.num_directions() {
                self.weight_gradients(layer, direction, part, task);
                if let Some(d_input) = d_input {
                    self.input_gradient(layer, direction, part(total), d_input, task);
                }
            }
            if let Some(d_input) = d_input
                && layer > 0
                && self.job.dropout
            {
                self.apply_mask(layer - 1, part(total), &d_input);
            }
        });
    }

    /// Adds the gradients of one direction's weights, of the units that `part` says.
    fn weight_gradients(
        &self,
        layer: usize,
        direction: usize,
        part: impl Fn(usize) -> Range<usize>,
        task: &mut BackTask<E>,
    ) {
        let (config, level) = (&self.shared.config, self.shared.level);
        let (job, form) = (&self.job, &self.form);
        let batch = job.batch;
        let index = layer * config.num_directions() + direction;
        let (packed, saved) = (&self.shared.directions[index], &job.saved.scans[index]);
        let [w_ih, w_hh, rest @ ..] = self.parameters(index) else { return };
        let [b_ih, b_hh] = if config.bias { [rest[0], rest[1]] } else { [None, None] };
        let inputs = config.layer_input_size(layer);
        let width = config.num_directions() * config.output_size();
        let x = match layer.checked_sub(1) {
            None => job.input,
            Some(below) => {
                let rows = batch.rows_before(batch.steps()) * width;
                RowsIn::packed(&job.saved.between[below * rows..], &batch, width)
            }
        };
        let h = RowsIn::packed(&saved.h, &batch, packed.h_stride());
        let deltas = Rows { batch, rows: self.deltas[direction], stride: form.stride };
        let common = |window, size, x, inputs, weight, bias| WeightGradient {
            level,
            deltas,
            window,
            size,
            units: part(size),
            steps: 0..batch.steps(),
            reverse: direction == 1,
            x,
            inputs,
            weight,
            bias,
        };
        let (panels, units, size) = (&mut task.panels, form.units, config.output_size());
        let gradient = common(form.input, units, x, inputs, *w_ih, b_ih);
        E::go_back(BackWork::Weights(gradient, panels));
        let gradient = common(form.recurrent, units, h, size, *w_hh, b_hh);
        E::go_back(BackWork::Weights(gradient, panels));
        if packed.w_hr.is_some() {
            let unprojected = RowsIn::packed(&saved.unprojected, &batch, packed.units());
            let window = crate::cell::Window { first: 0, gates: &[0] };
            let w_hr = rest[rest.len() - 1];
            let deltas = Rows { batch, rows: self.projected[direction], stride: size };
            let gradient = common(window, size, unprojected, units, w_hr, None);
            E::go_back(BackWork::Weights(WeightGradient { deltas, ..gradient }, panels));
        }
    }

    /// Adds one direction's gradient of the input of `layer`, for `rows` of all steps.
    fn input_gradient(
        &self,
        layer: usize,
        direction: usize,
        rows: Range<usize>,
        d_input: RowsOut<'a, E>,
        task: &mut BackTask<E>,
    ) {
        let Shared { config, level, directions, .. } = self.shared;
        let index = layer * config.num_directions() + direction;
        let weights = self.weights(index);
        let w_ih = directions[index].transposed.w_ih(weights, &self.form, E::lanes(*level));
        let (batch, stride) = (self.job.batch, self.form.stride);
        E::go_back(BackWork::Input(InputGradient {
            level: *level,
            deltas: Rows { batch, rows: self.deltas[direction], stride },
            form: self.form,
            w_ih,
            rows,
            d_input,
            scratch: &mut task.scratch,
        }));
    }

    /// Multiplies `rows` of the derivatives by the output of `layer` by its dropout mask.
    fn apply_mask(&self, layer: usize, rows: Range<usize>, d_output: &RowsOut<'a, E>) {
        let config = &self.shared.config;
        let (batch, width) = (&self.job.batch, config.num_directions() * config.output_size());
        let total = batch.rows_before(batch.steps());
        let masks = &self.job.saved.masks[layer * total * width..];
        for row in rows {
            // SAFETY: packed rows lie one after the other, and these are one thread's.
            unsafe { d_output.shifted(row * width).scale(0, 0, &masks[row * width..]) }
        }
    }
}
