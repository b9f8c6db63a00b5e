//! The way back through a call: layers from the last to the first, each in two phases.
//!
//! First the time loop, from the last computed step to the first: it turns the derivatives by `h` and `c`
//! into those by the gates' sums, of all rows ("deltas"). Then large products of these: with what the weights
//! were multiplied with they are the gradients of the weights, with the weights that of the layer's input.
//! Long sequences take turns: some steps of the one, then of the other, while the deltas are in a near cache.
#![allow(unsafe_code, reason = "results are shared out among threads")]

mod again;
mod dispatch;
mod job;
mod loops;
mod products;
mod scan;
mod transposed;
mod weights;

use core::ops::Range;

#[allow(unreachable_pub, reason = "named by a method of a public trait")]
pub use dispatch::BackWork;
pub(crate) use job::{BackJob, run_back};
pub(crate) use products::chunk_steps;
pub(crate) use weights::TrainingWeights;

use crate::buffer::Buffer;
use crate::crew::Crew;
use crate::cuts::Cuts;
use crate::exchange::Exchange;
use crate::kernel::outer::Panels;
use crate::kernel::pack::Layouts;
use crate::rows::{RowsIn, RowsOut};
use crate::saved::SavedScan;
use crate::stack::Stack;
use crate::workspace::Task;
use crate::{Element, memory};
use products::{InputGradient, Rows, WeightGradient};
use scan::BackCarry;
use transposed::{Deltas, Transposed};
use weights::BackWeights;

/// What the way back works in.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackMemory<E> {
    /// By the results of projections of the steps of a pass, one per direction.
    projected: [Buffer<E>; 2],
    /// By the outputs of two layers by turns: `[rows of all steps, D*P]`.
    between: [Buffer<E>; 2],
    /// By the input of a bidirectional layer, where it is added to what is there: `[rows of all steps, I]`.
    pub(crate) input_sum: Buffer<E>,
    /// With checkpoints, what forward would have saved of the steps of a pass, one per direction.
    again: [SavedScan<E>; 2],
    tasks: Vec<BackTask<E>>,
    /// Where threads that share out the units meet.
    exchange: Exchange<E>,
}

/// The buffers of one thread.
#[derive(Clone, Debug, Default)]
struct BackTask<E> {
    carry: BackCarry<E>,
    /// To compute steps again.
    forward: Task<E>,
    /// Of every chunk of a pass.
    panels: Vec<Panels<E>>,
    scratch: Buffer<E>,
}

/// Bytes of deltas that a pass computes, about, before their products follow, for recurrent weights of so many
/// bytes.
///
/// Small ones are still in the level-2 cache then, which took 0.83 of the time of products of all deltas at
/// once (LSTM of 256 units, 2,400 rows, Zen 5). The gradients of larger weights do not stay in it, and every pass reads
/// and writes them: with twice as many bytes as the weights rather than half as many, the products took 0.87 to
/// 0.93 of the time (512 units, 400 and 1,600 rows, Zen 4). With 16 MB instead of [`MOST_BYTES`] a training step took 1.04 of the
/// time (1024 units, 1,600 rows) and 0.97 (GRU of 1536 units, 400 rows, Ice Lake).
fn pass_bytes(of_weights: usize) -> usize {
    const MB: usize = 1 << 20;
    if of_weights <= MB { MB / 2 } else { MOST_BYTES.min(2 * of_weights) }
}

/// Most bytes of deltas of a pass.
const MOST_BYTES: usize = 8 << 20;

impl<E: Element> BackWeights<E> {
    /// Goes back through the layers down to the `lowest`.
    fn run(&mut self, job: BackJob<'_, E>, lowest: usize, memory: &mut BackMemory<E>) {
        let Self { stack, transposed, deltas, zeros } = self;
        let mut deltas = deltas.each_mut().map(Layouts::memory);
        let (config, batch) = (&stack.config, job.batch);
        let total = batch.rows_before(batch.steps());
        let width = config.num_directions() * config.output_size();
        let BackMemory { projected, between, again, tasks, exchange, .. } = memory;
        let mut projected = projected.each_mut();
        let between = between.each_mut().map(|buffer| {
            buffer.reserve(if config.num_layers > 1 { total * width } else { 0 });
            RowsOut::packed(buffer, &batch, if config.num_layers > 1 { width } else { 0 })
        });
        // Once: the number of threads may be set to another in the middle, and every part carries its state along.
        let crew = Crew::of_call(stack.work(total).saturating_mul(2));
        let parts = crew.worth(batch.rows(), stack.work(total) / config.num_layers);
        let members = stack.members_back(&batch, parts, crew);
        let form = Deltas::of::<E>(config);
        let call = BackCall { stack, transposed, zeros, form, job, crew, parts, members, between };
        for layer in (lowest..config.num_layers).rev() {
            let d_input = match layer {
                0 => call.job.d_input,
                _ if layer == lowest => None,
                _ => Some(call.between[(layer - 1) % 2]),
            };
            if let Some(between) = d_input.filter(|_| layer > 0) {
                // SAFETY: nothing else is running.
                unsafe { core::slice::from_raw_parts_mut(between.place(0, 0), total * width) }
                    .fill(E::ZERO);
            }
            let spans = call.spans();
            for pass in 0..spans.len() {
                let steps = [&spans[spans.len() - 1 - pass], &spans[pass]];
                let pass = Pass {
                    layer,
                    steps: steps.map(Range::clone),
                    deltas: call.rows(&mut deltas, steps, call.form.stride),
                    projected: call.rows(&mut projected, steps, config.proj_size),
                    is_first: pass == 0,
                    is_last: pass + 1 == spans.len(),
                };
                let computed = call.job.saved.every > 0;
                if computed {
                    call.compute_again(&pass, again, tasks);
                }
                let saved = computed.then_some(&*again);
                call.scans(&pass, saved, tasks, exchange);
                call.products(&pass, saved, d_input, tasks);
            }
            if layer > 0
                && let Some(d_input) = d_input
                && call.job.dropout
            {
                call.apply_mask(layer - 1, &d_input);
            }
        }
    }
}

/// What all threads of a call share.
struct BackCall<'a, E> {
    stack: &'a Stack<E>,
    transposed: &'a [Transposed<E>],
    zeros: &'a [E],
    form: Deltas,
    job: BackJob<'a, E>,
    crew: Crew,
    /// The sequences of the time loops that run on different threads.
    parts: usize,
    /// How many threads share out the units of a time loop instead, if more than 1.
    members: usize,
    between: [RowsOut<'a, E>; 2],
}

/// Some steps of one layer, of each direction its own.
struct Pass<'a, E> {
    layer: usize,
    steps: [Range<usize>; 2],
    deltas: [RowsOut<'a, E>; 2],
    projected: [RowsOut<'a, E>; 2],
    is_first: bool,
    is_last: bool,
}

impl<'a, E: Element> BackCall<'a, E> {
    /// The steps of a pass in the order in which forward computed them.
    fn positions(&self, pass: &Pass<'_, E>, direction: usize) -> Range<usize> {
        let (steps, all) = (&pass.steps[direction], self.job.batch.steps());
        if direction == 1 { all - steps.end..all - steps.start } else { steps.clone() }
    }

    /// What forward has saved, or what has been computed again, and the row of all steps that it begins with.
    fn saved<'b>(
        &'b self,
        pass: &Pass<'_, E>,
        again: Option<&'b [SavedScan<E>; 2]>,
        direction: usize,
    ) -> (&'b SavedScan<E>, usize) {
        let index = pass.layer * self.stack.config.num_directions() + direction;
        match again {
            Some(again) => {
                (&again[direction], self.job.batch.rows_before(pass.steps[direction].start))
            }
            None => (&self.job.saved.scans[index], 0),
        }
    }

    /// Where the sequences are cut, if anywhere.
    fn cuts(&self) -> Option<Cuts<'_>> {
        let cuts = &self.job.saved.cuts;
        (!cuts.is_empty()).then(|| Cuts::new(self.job.batch, cuts))
    }

    /// What entered `layer`.
    fn input(&self, layer: usize) -> RowsIn<'_, E> {
        let (config, batch) = (&self.stack.config, &self.job.batch);
        let width = config.num_directions() * config.output_size();
        match layer.checked_sub(1) {
            None => self.job.input,
            Some(below) => {
                let rows = batch.rows_before(batch.steps()) * width;
                RowsIn::packed(&self.job.saved.between[below * rows..], batch, width)
            }
        }
    }

    /// The gradients of the parameters of the `index`-th layer and direction.
    fn parameters(&self, index: usize) -> &[Option<RowsOut<'a, E>>] {
        let each = self.stack.config.direction_parameters(0).len();
        self.job.parameters.get(index * each..(index + 1) * each).unwrap_or_default()
    }

    /// Rows of `width` elements in `buffers`, of `steps` of each direction.
    fn rows<'b>(
        &'b self,
        [first, second]: &'b mut [&mut Buffer<E>; 2],
        steps: [&Range<usize>; 2],
        width: usize,
    ) -> [RowsOut<'b, E>; 2] {
        let batch = &self.job.batch;
        let rows = |buffer: &'b mut Buffer<E>, steps: &Range<usize>, width: usize| {
            let count = batch.rows_before(steps.end) - batch.rows_before(steps.start);
            buffer.reserve(count * width);
            RowsOut::packed_from(buffer, batch, steps.clone(), width)
        };
        let second_width = if self.stack.config.bidirectional { width } else { 0 };
        [rows(first, steps[0], width), rows(second, steps[1], second_width)]
    }

    /// The steps of the passes in order of time: whole chunks of the weights' sums.
    fn spans(&self) -> Vec<Range<usize>> {
        let (batch, chunk) = (&self.job.batch, chunk_steps(&self.job.batch));
        let bytes = chunk * batch.rows().max(1) * self.form.stride * size_of::<E>();
        let of_weights = self.stack.directions[0].w_hh.len() * size_of::<E>();
        let whole_chunks = || chunk * (pass_bytes(of_weights) / bytes).max(1);
        let span = self.job.saved.span(batch).unwrap_or_else(whole_chunks);
        let steps = batch.steps();
        // Sequences of no steps take a pass too, which hands on the derivatives by the final state.
        let starts = (0..steps.max(1)).step_by(span);
        let mut spans = memory::with_capacity(starts.len());
        spans.extend(starts.map(|start| start..(start + span).min(steps)));
        spans
    }

    /// Computes the products of a pass: units of the weights and rows of the input on different threads.
    fn products(
        &self,
        pass: &Pass<'_, E>,
        again: Option<&[SavedScan<E>; 2]>,
        d_input: Option<RowsOut<'a, E>>,
        tasks: &mut Vec<BackTask<E>>,
    ) {
        let (config, batch) = (&self.stack.config, &self.job.batch);
        let rows = pass
            .steps
            .each_ref()
            .map(|steps| batch.rows_before(steps.start)..batch.rows_before(steps.end));
        let work = 2 * self.stack.work(rows[0].len().max(rows[1].len())) / config.num_layers;
        let parts = self.crew.worth(config.hidden_size.max(2), work);
        memory::lengthen(tasks, parts);
        self.crew.for_each(&mut tasks[..parts], |k, task| {
            let part = |count: usize| count * k / parts..count * (k + 1) / parts;
            for direction in 0..config.num_directions() {
                self.weight_gradients(pass, again, direction, part, &mut task.panels);
                if let Some(d_input) = d_input {
                    // Directions that go through the same rows share them out in the same way.
                    let (start, rows) = (rows[direction].start, part(rows[direction].len()));
                    let rows = start + rows.start..start + rows.end;
                    self.input_gradient(pass, direction, rows, d_input, &mut task.scratch);
                }
            }
        });
    }

    /// Adds the gradients of one direction's weights, of the units that `part` says.
    fn weight_gradients(
        &self,
        pass: &Pass<'_, E>,
        again: Option<&[SavedScan<E>; 2]>,
        direction: usize,
        part: impl Fn(usize) -> Range<usize>,
        panels: &mut Vec<Panels<E>>,
    ) {
        let layer = pass.layer;
        let (config, level) = (&self.stack.config, self.stack.level);
        let (batch, form) = (self.job.batch, &self.form);
        let index = layer * config.num_directions() + direction;
        let packed = &self.stack.directions[index];
        let (saved, base) = self.saved(pass, again, direction);
        let [w_ih, w_hh, rest @ ..] = self.parameters(index) else { return };
        let [b_ih, b_hh] = if config.bias { [rest[0], rest[1]] } else { [None, None] };
        let inputs = config.layer_input_size(layer);
        let x = self.input(layer);
        // SAFETY: the rows of the pass are there, and no others are read.
        let h = unsafe { RowsIn::packed_from(&saved.h, &batch, base, packed.h_stride()) };
        let deltas = Rows { batch, rows: pass.deltas[direction], stride: form.stride };
        let common = |window, size, x, inputs, weight, bias| WeightGradient {
            level,
            deltas,
            window,
            size,
            units: part(size),
            steps: pass.steps[direction].clone(),
            reverse: direction == 1,
            x,
            inputs,
            weight,
            bias,
        };
        let (units, size) = (form.units, config.output_size());
        let gradient = common(form.input, units, x, inputs, *w_ih, b_ih);
        E::go_back(BackWork::Weights(gradient, panels));
        let gradient = common(form.recurrent, units, h, size, *w_hh, b_hh);
        E::go_back(BackWork::Weights(gradient, panels));
        if packed.w_hr.is_some() {
            // SAFETY: as above.
            let unprojected =
                unsafe { RowsIn::packed_from(&saved.unprojected, &batch, base, packed.units()) };
            let window = crate::cell::Window { first: 0, gates: &[0] };
            let w_hr = rest[rest.len() - 1];
            let deltas = Rows { batch, rows: pass.projected[direction], stride: size };
            let gradient = common(window, size, unprojected, units, w_hr, None);
            E::go_back(BackWork::Weights(WeightGradient { deltas, ..gradient }, panels));
        }
    }

    /// Adds one direction's gradient of the input of `layer`, for `rows` of all steps.
    fn input_gradient(
        &self,
        pass: &Pass<'_, E>,
        direction: usize,
        rows: Range<usize>,
        d_input: RowsOut<'a, E>,
        scratch: &mut Buffer<E>,
    ) {
        let Stack { config, level, .. } = self.stack;
        let index = pass.layer * config.num_directions() + direction;
        let Some(w_ih) = &self.transposed[index].w_ih else { return };
        let (batch, stride) = (self.job.batch, self.form.stride);
        E::go_back(BackWork::Input(InputGradient {
            level: *level,
            deltas: Rows { batch, rows: pass.deltas[direction], stride },
            form: self.form,
            w_ih,
            zeros: &self.zeros[..w_ih.width()],
            rows,
            d_input,
            scratch,
        }));
    }

    /// Multiplies the derivatives by the output of `layer` by its dropout mask.
    fn apply_mask(&self, layer: usize, d_output: &RowsOut<'a, E>) {
        let config = &self.stack.config;
        let (batch, width) = (&self.job.batch, config.num_directions() * config.output_size());
        let total = batch.rows_before(batch.steps());
        let masks = &self.job.saved.masks[layer * total * width..];
        for row in 0..total {
            // SAFETY: packed rows lie one after the other, and nothing else is running.
            unsafe { d_output.shifted(row * width).scale(0, 0, &masks[row * width..]) }
        }
    }
}
