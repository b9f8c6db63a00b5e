//! One forward call: shapes checked once, then layers times directions.
#![allow(unsafe_code, reason = "results are shared out among threads by rows")]

use core::ops::Range;

use crate::buffer::Buffer;
use crate::rnn::Shared;
use crate::rows::{Batch, Layout, RowsIn, RowsOut};
use crate::scan::Scan;
use crate::workspace::{Task, Workspace};
use crate::{Config, Element, Error, Generator, Tensor, View, threads};

/// A state to begin with: `h: [D*L, B, P]` and, for an LSTM, `c: [D*L, B, H]`; without `B` where
/// the input has none.
#[derive(Copy, Clone, Debug)]
pub struct State<'a, E> {
    /// PyTorch's `h_0`.
    pub h: View<'a, E>,
    /// PyTorch's `c_0`.
    pub c: Option<View<'a, E>>,
}

/// The optional arguments of a forward call.
///
/// ```
/// use tidegate::{Config, Mode, Options, RnnBase, View};
/// let gru = RnnBase::<f32>::new(Config::new(Mode::Gru, 2, 3))?;
/// let x = [0.5; 4 * 2 * 2];
/// let options = Options { lengths: Some(&[4, 1]), ..Options::default() };
/// let result = gru.forward_with(View::new(&x, &[4, 2, 2])?, options)?;
/// assert_eq!(result.output.shape(), [4, 2, 3]);
/// assert_eq!(result.output.data()[3 * 6 + 3..], [0.0; 3]); // step 3 of the shorter sequence
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Debug)]
pub struct Options<'a, E> {
    /// The state to begin with; zeros if none.
    pub state: Option<State<'a, E>>,
    /// The number of steps of each sequence, `[B]`, from 0 to `T`; all `T` if none.
    ///
    /// Steps past a sequence's end are not computed, and the reverse direction begins at that
    /// end. The final state is the one at each sequence's own end; of an empty sequence, the
    /// state it began with.
    pub lengths: Option<&'a [usize]>,
    /// What `output` holds past a sequence's end.
    pub padding_value: E,
    /// The generator to draw dropout from: given means training mode, `None` evaluation mode.
    pub dropout: Option<&'a mut Generator>,
}

impl<E: Element> Default for Options<'_, E> {
    fn default() -> Self {
        Self { state: None, lengths: None, padding_value: E::ZERO, dropout: None }
    }
}

/// The results of a forward call.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<E> {
    /// `h` of the last layer at every step: `[T, B, D*P]`, in the order of the input.
    pub output: Tensor<E>,
    /// The final `h` of every layer and direction: `[D*L, B, P]`.
    pub h_n: Tensor<E>,
    /// The final `c` of every layer and direction: `[D*L, B, H]`, for an LSTM.
    pub c_n: Option<Tensor<E>>,
}

/// Where a forward call's results go: row-major, all of them overwritten.
#[derive(Debug)]
pub struct OutputMut<'a, E> {
    /// As [`Output::output`].
    pub output: &'a mut [E],
    /// As [`Output::h_n`].
    pub h_n: &'a mut [E],
    /// As [`Output::c_n`]; empty where there is none.
    pub c_n: &'a mut [E],
}

/// The sizes of a checked input.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Dims {
    steps: usize,
    rows: usize,
    unbatched: bool,
}

/// Checks the shape of an input as PyTorch does.
pub(crate) fn check_input<E: Element>(config: &Config, x: &View<'_, E>) -> Result<Dims, Error> {
    let shape = x.shape();
    if !(2..=3).contains(&shape.len()) {
        let got = shape.len();
        return Err(Error::Dimensions { tensor: "input", expected: "2D or 3D", got });
    }
    let inputs = shape[shape.len() - 1];
    if inputs != config.input_size {
        return Err(Error::InputSize { expected: config.input_size, got: inputs });
    }
    let (steps, rows) = match (shape, config.batch_first) {
        ([steps, _], _) => (*steps, 1),
        ([rows, steps, _], true) | ([steps, rows, _], false) => (*steps, *rows),
        _ => unreachable!("the number of dimensions was just checked"),
    };
    if steps == 0 {
        return Err(Error::EmptySequence);
    }
    let dims = Dims { steps, rows, unbatched: shape.len() == 2 };
    // A view may repeat elements (stride 0), so its sizes may exceed memory; results may not.
    let widest = (config.num_layers * 2 * config.hidden_size).max(config.input_size);
    let elements = steps.checked_mul(rows).and_then(|n| n.checked_mul(widest));
    if elements.is_none_or(|n| n > isize::MAX as usize / 64) {
        return Err(Error::TooLarge { what: "the output" });
    }
    Ok(dims)
}

impl Dims {
    /// Results of the right shapes, filled with zeros.
    pub(crate) fn output<E: Element>(&self, config: &Config) -> Output<E> {
        let width = config.num_directions() * config.output_size();
        let shape = match (self.unbatched, config.batch_first) {
            (true, _) => vec![self.steps, width],
            (false, true) => vec![self.rows, self.steps, width],
            (false, false) => vec![self.steps, self.rows, width],
        };
        let state = |size| Tensor::full(&self.state_shape(config, size), E::ZERO);
        Output {
            output: Tensor::full(&shape, E::ZERO),
            h_n: state(config.output_size()),
            c_n: config.mode.has_cell_state().then(|| state(config.hidden_size)),
        }
    }

    /// The shape of a state whose last dimension is `size`.
    fn state_shape(&self, config: &Config, size: usize) -> Vec<usize> {
        let scans = config.num_layers * config.num_directions();
        if self.unbatched { vec![scans, size] } else { vec![scans, self.rows, size] }
    }

    /// Checks one state's shape and returns it as `[D*L, B, size]`.
    fn check_state<'a, E: Element>(
        &self,
        config: &Config,
        tensor: &'static str,
        view: View<'a, E>,
        size: usize,
    ) -> Result<View<'a, E>, Error> {
        let expected_dims = if self.unbatched { 2 } else { 3 };
        if view.ndim() != expected_dims {
            let expected = if self.unbatched {
                "2D, as the input is unbatched"
            } else {
                "3D, as the input is batched"
            };
            return Err(Error::Dimensions { tensor, expected, got: view.ndim() });
        }
        let scans = config.num_layers * config.num_directions();
        let [first, last] = [view.shape()[0], view.shape()[expected_dims - 1]];
        let rows_match = self.unbatched || view.shape()[1] == self.rows;
        if first != scans || last != size || !rows_match {
            let expected = self.state_shape(config, size);
            return Err(Error::Shape { tensor, expected, got: view.shape().to_vec() });
        }
        Ok(if self.unbatched { view.unsqueezed(1) } else { view })
    }
}

/// A checked state, as rows with the step standing for layer and direction.
#[derive(Copy, Clone)]
pub(crate) struct InitialState<'a, E> {
    h: View<'a, E>,
    c: Option<View<'a, E>>,
}

impl<'a, E: Element> InitialState<'a, E> {
    /// Checks `state` against the batch's sizes.
    pub(crate) fn check(config: &Config, rows: usize, state: State<'a, E>) -> Result<Self, Error> {
        Self::check_dims(config, &Dims { steps: 1, rows, unbatched: false }, state)
    }

    fn check_dims(config: &Config, dims: &Dims, state: State<'a, E>) -> Result<Self, Error> {
        let expected = config.mode.has_cell_state();
        if state.c.is_some() != expected {
            return Err(Error::CellState { expected });
        }
        let h = dims.check_state(config, "h_0", state.h, config.output_size())?;
        let c = match state.c {
            Some(c) => Some(dims.check_state(config, "c_0", c, config.hidden_size)?),
            None => None,
        };
        Ok(Self { h, c })
    }

    /// The rows of `h` and `c`, with sequence `b` at position `order[b]`.
    pub(crate) fn rows(self, order: Option<&'a [usize]>) -> (RowsIn<'a, E>, Option<RowsIn<'a, E>>) {
        (RowsIn::new(self.h, order), self.c.map(|c| RowsIn::new(c, order)))
    }
}

/// A call with everything checked, in terms of rows.
pub(crate) struct Job<'a, E> {
    pub(crate) batch: Batch<'a>,
    pub(crate) input: RowsIn<'a, E>,
    pub(crate) output: RowsOut<'a, E>,
    pub(crate) state: Option<InitialState<'a, E>>,
    /// Position in the states of each sequence of the batch.
    pub(crate) order: Option<&'a [usize]>,
    pub(crate) h_n: &'a mut [E],
    pub(crate) c_n: &'a mut [E],
    pub(crate) dropout: Option<&'a mut Generator>,
}

impl<E: Element> Shared<E> {
    pub(crate) fn forward_into<'a>(
        &self,
        x: View<'a, E>,
        options: Options<'a, E>,
        workspace: &mut Workspace<E>,
        out: OutputMut<'_, E>,
    ) -> Result<(), Error> {
        let config = &self.config;
        let dims = check_input(config, &x)?;
        let state = match options.state {
            Some(state) => Some(InitialState::check_dims(config, &dims, state)?),
            None => None,
        };
        check_results(config, &dims, &out)?;

        let Workspace { between, masks, order, offsets, tasks } = workspace;
        let ragged = match options.lengths {
            Some(lengths) => sort_lengths(lengths, &dims, order, offsets)?,
            None => false,
        };
        let (batch, order) = if ragged {
            out.output.fill(options.padding_value);
            (Batch::Ragged { rows: dims.rows, offsets }, Some(&order[..]))
        } else {
            (Batch::Equal { steps: dims.steps, rows: dims.rows }, None)
        };

        let x = match (dims.unbatched, config.batch_first) {
            (true, _) => x.unsqueezed(1),
            (false, true) => x.swapped(0, 1),
            (false, false) => x,
        };
        let width = config.num_directions() * config.output_size();
        let (time, row) = if config.batch_first && !dims.unbatched {
            (width, dims.steps * width)
        } else {
            (dims.rows * width, width)
        };
        let layout = Layout::strided(time as isize, row as isize, order);
        let job = Job {
            batch,
            input: RowsIn::new(x, order),
            // SAFETY: the length was checked to be `steps * rows * width`, and `order` is a
            // permutation of the rows.
            output: unsafe { RowsOut::new(out.output, layout, width) },
            state,
            order,
            h_n: out.h_n,
            c_n: out.c_n,
            dropout: options.dropout,
        };
        self.run(job, between, masks, tasks);
        Ok(())
    }

    /// Runs a checked call.
    pub(crate) fn run(
        &self,
        job: Job<'_, E>,
        between: &mut [Buffer<E>; 2],
        masks: &mut Buffer<E>,
        tasks: &mut Vec<Task<E>>,
    ) {
        let config = &self.config;
        let (batch, rows) = (job.batch, job.batch.rows());
        let total = batch.rows_before(batch.steps());
        let width = config.num_directions() * config.output_size();

        let p = config.dropout;
        let masks: Option<&[E]> = match job.dropout {
            Some(generator) if p > 0.0 && config.num_layers > 1 => {
                let len = (config.num_layers - 1) * total * width;
                masks.reserve(len);
                draw_masks(&mut masks[..len], p, generator);
                Some(&masks[..len])
            }
            _ => None,
        };
        let [first, second] = between;
        let state = job.state.map(|state| state.rows(job.order));
        let call = Call {
            shared: self,
            batch,
            input: job.input,
            output: job.output,
            between: [
                between_rows(first, config.num_layers > 1, &batch, width),
                between_rows(second, config.num_layers > 2, &batch, width),
            ],
            h_0: state.map(|(h, _)| h),
            c_0: state.and_then(|(_, c)| c),
            h_n: state_rows(job.h_n, rows, config.output_size(), job.order),
            c_n: config
                .mode
                .has_cell_state()
                .then(|| state_rows(job.c_n, rows, config.hidden_size, job.order)),
            masks,
        };
        let parts = threads::parts(rows, self.work(total));
        tasks.resize_with(tasks.len().max(parts.len()), Task::default);
        threads::for_each(&mut tasks[..parts.len()], |k, task| {
            // SAFETY: the parts are disjoint, so no two threads share a row.
            unsafe { call.run_rows(parts.range(k), task) }
        });
    }

    /// Number of multiply-adds of `rows` rows of all steps.
    fn work(&self, rows: usize) -> usize {
        let per_row: usize = self
            .directions
            .iter()
            .map(|d| d.w_ih.data.len() + d.w_hh.data.len())
            .fold(0, usize::saturating_add);
        per_row.saturating_mul(rows)
    }
}

/// The rows of one of the buffers between layers, if it is needed.
fn between_rows<'a, E: Element>(
    buffer: &'a mut Buffer<E>,
    needed: bool,
    batch: &Batch<'a>,
    width: usize,
) -> Option<RowsOut<'a, E>> {
    let len = batch.rows_before(batch.steps()) * width;
    needed.then(|| {
        buffer.reserve(len);
        RowsOut::packed(&mut buffer[..len], batch, width)
    })
}

/// The rows of a final state `[D*L, B, size]`, with the step standing for layer and direction.
fn state_rows<'a, E: Element>(
    data: &'a mut [E],
    rows: usize,
    size: usize,
    order: Option<&'a [usize]>,
) -> RowsOut<'a, E> {
    let layout = Layout::strided((rows * size) as isize, size as isize, order);
    // SAFETY: the results' lengths were checked, and `order` is a permutation of the rows.
    unsafe { RowsOut::new(data, layout, size) }
}

/// What all threads of a call share.
struct Call<'a, E> {
    shared: &'a Shared<E>,
    batch: Batch<'a>,
    input: RowsIn<'a, E>,
    output: RowsOut<'a, E>,
    between: [Option<RowsOut<'a, E>>; 2],
    h_0: Option<RowsIn<'a, E>>,
    c_0: Option<RowsIn<'a, E>>,
    h_n: RowsOut<'a, E>,
    c_n: Option<RowsOut<'a, E>>,
    masks: Option<&'a [E]>,
}

impl<E: Element> Call<'_, E> {
    /// Runs all layers and directions for `rows`.
    ///
    /// # Safety
    /// No other thread may run any of these rows at the same time.
    unsafe fn run_rows(&self, rows: Range<usize>, task: &mut Task<E>) {
        let config = &self.shared.config;
        let (directions, size) = (config.num_directions(), config.output_size());
        for layer in 0..config.num_layers {
            let input = match layer.checked_sub(1).and_then(|below| self.between[below % 2]) {
                // SAFETY: the layer below has been written, by this thread as far as `rows` go.
                Some(below) => unsafe { below.reader() },
                None => self.input,
            };
            let last = layer + 1 == config.num_layers;
            let output = match self.between[layer % 2] {
                Some(between) if !last => between,
                _ => self.output,
            };
            for direction in 0..directions {
                let scan = Scan {
                    direction: &self.shared.directions[layer * directions + direction],
                    batch: self.batch,
                    rows: rows.clone(),
                    reverse: direction == 1,
                    input,
                    output: output.columns(direction * size, size),
                };
                // SAFETY: the caller's.
                unsafe { self.run_scan(scan, layer * directions + direction, task) }
            }
            if let (Some(masks), false) = (self.masks, last) {
                // SAFETY: the caller's.
                unsafe { self.apply_mask(masks, layer, rows.clone(), &output) }
            }
        }
    }

    /// Runs one layer in one direction, the `index`-th of the stack, from state to state.
    ///
    /// # Safety
    /// As [`run_rows`](Self::run_rows).
    unsafe fn run_scan(&self, scan: Scan<'_, E>, index: usize, task: &mut Task<E>) {
        let Shared { config, level, .. } = self.shared;
        let (direction, rows) = (scan.direction, scan.rows.clone());
        let Task { carry, scratch } = task;
        carry.reserve(direction, config.mode, rows.len());
        carry.load(direction, index, rows.clone(), self.h_0, self.c_0);
        // SAFETY: the caller's.
        unsafe {
            scan.run(config.mode, *level, carry, scratch);
            carry.store(direction, index, rows, &self.h_n, self.c_n.as_ref());
        }
    }

    /// Multiplies the output of `layer` by its dropout mask.
    ///
    /// # Safety
    /// As [`run_rows`](Self::run_rows).
    unsafe fn apply_mask(
        &self,
        masks: &[E],
        layer: usize,
        rows: Range<usize>,
        output: &RowsOut<'_, E>,
    ) {
        let config = &self.shared.config;
        let width = config.num_directions() * config.output_size();
        let total = self.batch.rows_before(self.batch.steps());
        for t in 0..self.batch.steps() {
            for b in rows.start..rows.end.min(self.batch.rows_at(t)) {
                let row = layer * total + self.batch.rows_before(t) + b;
                // SAFETY: the caller's.
                unsafe { output.scale(t, b, &masks[row * width..]) }
            }
        }
    }
}

/// Fills `masks` with 0, with probability `p`, and `1 / (1 - p)` otherwise.
fn draw_masks<E: Element>(masks: &mut [E], p: f64, generator: &mut Generator) {
    let keep = E::from_f64(if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 });
    masks.fill_with(|| if generator.uniform::<f64>() < p { E::ZERO } else { keep });
}

/// Checks the lengths of the caller's buffers.
fn check_results<E: Element>(
    config: &Config,
    dims: &Dims,
    out: &OutputMut<'_, E>,
) -> Result<(), Error> {
    let width = config.num_directions() * config.output_size();
    let scans = config.num_layers * config.num_directions();
    let cells = if config.mode.has_cell_state() { config.hidden_size } else { 0 };
    for (tensor, got, expected) in [
        ("output", out.output.len(), dims.steps * dims.rows * width),
        ("h_n", out.h_n.len(), scans * dims.rows * config.output_size()),
        ("c_n", out.c_n.len(), scans * dims.rows * cells),
    ] {
        if got != expected {
            return Err(Error::Shape { tensor, expected: vec![expected], got: vec![got] });
        }
    }
    Ok(())
}

/// Sorts the rows of the batch by decreasing length into `order`, equal ones as they come, and
/// counts the packed rows before each step into `offsets`.
///
/// Returns whether any length is less than all steps.
fn sort_lengths(
    lengths: &[usize],
    dims: &Dims,
    order: &mut Vec<usize>,
    offsets: &mut Vec<usize>,
) -> Result<bool, Error> {
    if lengths.len() != dims.rows {
        return Err(Error::LengthsCount { batch: dims.rows, got: lengths.len() });
    }
    if let Some(row) = lengths.iter().position(|&length| length > dims.steps) {
        let (length, max) = (lengths[row], dims.steps);
        return Err(Error::LengthOutOfRange { row, length, min: 0, max });
    }
    order.clear();
    order.extend(0..lengths.len());
    // Unstable sorting allocates nothing; the row number makes it stable.
    order.sort_unstable_by_key(|&row| (core::cmp::Reverse(lengths[row]), row));
    let longest = lengths.iter().copied().max().unwrap_or(0);
    offsets.clear();
    offsets.push(0);
    let mut alive = lengths.len();
    for t in 0..longest {
        while alive > 0 && lengths[order[alive - 1]] <= t {
            alive -= 1;
        }
        offsets.push(offsets[t] + alive);
    }
    Ok(lengths.iter().any(|&length| length < dims.steps))
}
