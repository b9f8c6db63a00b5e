//! One step, or a chunk of steps, per call.
#![allow(unsafe_code, reason = "the rows handed to a scan are this stream's alone")]

use std::sync::Arc;

use crate::advance::{Advance, Part};
use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::carry::Carry;
use crate::check::InitialState;
use crate::exchange::{Exchange, Watch, share_of};
use crate::rows::{Layout, RowsIn, RowsOut};
use crate::scan::Others;
use crate::single::SingleSteps;
use crate::stack::Stack;
use crate::weights::Direction;
use crate::{Element, Error, State, Tensor, View, memory, threads};

/// Multiply-adds of a step below which a second thread saves little. Measured on a Zen 5: two threads
/// take 1.4 times as long as one at 33,000, 0.95 times at 131,000 and 0.46 times at 524,000, where the
/// halves of the weights fit into the cores' level-2 caches.
const WORTH_SHARING: usize = 150_000;

/// Sequences that arrive piece by piece: the state is kept between calls.
///
/// Any division into steps and chunks gives the bits of one call over the whole. A stream shares
/// the layer's weights and owns only its state; after construction [`step`](Self::step) allocates
/// nothing, and [`push`](Self::push) nothing after its longest chunk.
///
/// ```
/// let gru = tidegate::Gru::<f32>::new(3, 8)?;
/// let mut stream = gru.stream(1)?;
/// let y = stream.step(&[0.1, 0.2, 0.3])?; // [B, H]
/// assert_eq!(y.len(), 8);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stream<E = f32> {
    stack: Arc<Stack<E>>,
    batch: usize,
    /// One per thread that may run. The first `holders` of them have the state: each has all of `h`
    /// and the `c` of its own units.
    parts: Vec<Part<E>>,
    holders: usize,
    /// Where the threads meet after every step.
    exchange: Exchange<E>,
    /// Outputs of the layers below the one that is running, `[N, B, P]`, by turns.
    between: [Buffer<E>; 2],
    /// The last layer's output of a step that does not go the shorter way, `[B, P]`.
    output: Vec<E>,
    /// The shorter way of a step of one sequence on one thread.
    single: Option<SingleSteps<E>>,
}

impl<E: Element> Stream<E> {
    pub(crate) fn new(stack: Arc<Stack<E>>, batch: usize) -> Result<Self, Error> {
        let config = &stack.config;
        if config.bidirectional {
            return Err(Error::BidirectionalStream);
        }
        let widest = (config.hidden_size + 64).max(config.input_size) * config.mode.gates();
        if batch.checked_mul(widest).is_none_or(|n| n > isize::MAX as usize / 64) {
            return Err(Error::TooLarge { what: "the batch" });
        }
        memory::or_error(|| {
            for direction in &stack.directions {
                direction.prepare(batch);
            }
            let outputs = batch * config.output_size();
            let between = [Buffer::zeros(outputs), Buffer::zeros(outputs)];
            let (output, exchange) = (memory::zeros(outputs), Exchange::default());
            let single = SingleSteps::new(&stack, batch);
            let (parts, holders) = (vec![Part::new(&stack, batch)], 1);
            let stack = stack.clone();
            Ok(Self { stack, batch, parts, holders, exchange, between, output, single })
        })
    }

    /// Sets how many threads may share out the units of every step; 0 stands for as many as the
    /// machine offers, whatever [`set_num_threads`](crate::set_num_threads) says. The results have the same bits with any
    /// number.
    ///
    /// A new stream has one: it runs on the calling thread, locks nothing and makes no system call.
    /// More are used where a step is long enough (150,000 multiply-adds of all layers and sequences: an LSTM of one layer and
    /// 140 units, one sequence); shorter steps, and those with a projection,
    /// are left to one, whatever is set. They pay where steps follow one another closely: a helper that has had nothing to
    /// do for a while must be woken first.
    ///
    /// # Panics
    /// If there is no memory for their states.
    pub fn set_num_threads(&mut self, threads: usize) {
        let Stack { config, directions, .. } = &*self.stack;
        let blocks = directions.iter().map(|d| d.w_hh.blocks).min().unwrap_or(1);
        let alone = config.proj_size > 0 || !self.is_long();
        let most = if alone { 1 } else { blocks.min(threads::offered()) };
        let threads = if threads == 0 { most } else { threads.min(most) };
        self.gather();
        memory::or_panic(|| {
            self.parts.resize_with(threads, || Part::new(&self.stack, self.batch));
            self.make_room(1);
        });
    }

    /// How many threads may share out the units of a step: at most the number that was set.
    pub fn num_threads(&self) -> usize {
        self.parts.len()
    }

    /// Number of sequences.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Runs one step over `x: [B, I]` and returns the last layer's output, `[B, P]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another length; the state is unchanged then.
    // Always: a result that is returned through memory and copied makes the processor wait for the whole step.
    #[inline(always)]
    pub fn step(&mut self, x: &[E]) -> Result<&[E], Error> {
        let expected = self.batch * self.stack.config.input_size;
        if x.len() != expected {
            return Err(wrong_length(expected, x.len()));
        }
        match &self.single {
            Some(single) if self.parts.len() == 1 => Ok(single.run(x, &mut self.parts[0].carries)),
            _ => Ok(self.step_of_many(x)),
        }
    }

    /// [`step`](Self::step) of several sequences, by several threads or with a projection.
    #[inline(never)]
    fn step_of_many(&mut self, x: &[E]) -> &[E] {
        let mut output = core::mem::take(&mut self.output);
        self.advance(1, x, &mut output);
        self.output = output;
        &self.output
    }

    /// Runs the steps of `x: [N, B, I]`, any `N`, and writes the last layer's output to
    /// `output: [N, B, P]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not whole steps, or `output` not as many; [`Error::OutOfMemory`].
    /// The state is unchanged then.
    pub fn push(&mut self, x: &[E], output: &mut [E]) -> Result<(), Error> {
        let config = &self.stack.config;
        let (input, size) = (self.batch * config.input_size, self.batch * config.output_size());
        let steps = x.len().checked_div(input).unwrap_or(0);
        if x.len() != steps * input {
            let (expected, got) = (vec![steps * input], vec![x.len()]);
            return Err(Error::Shape { tensor: "x", expected, got });
        }
        if output.len() != steps * size {
            let (expected, got) = (vec![steps * size], vec![output.len()]);
            return Err(Error::Shape { tensor: "output", expected, got });
        }
        if steps > 0 {
            memory::or_error(|| {
                self.make_room(steps);
                Ok(())
            })?;
            self.advance(steps, x, output);
        }
        Ok(())
    }

    /// Makes room for `steps` steps, so that running them asks for no memory.
    fn make_room(&mut self, steps: usize) {
        let Stack { config, directions, .. } = &*self.stack;
        let batch = Batch::Equal { steps, rows: self.batch };
        for part in &mut self.parts {
            directions.iter().for_each(|d| part.scratch.reserve(d, &batch, self.batch));
        }
        if config.num_layers > 1 {
            for between in &mut self.between {
                between.reserve(steps * self.batch * config.output_size());
            }
        }
        if self.parts.len() > 1 {
            self.exchange.prepare(self.parts.len(), self.batch * self.widest_state());
        }
    }

    /// Elements of the longest row of `h`.
    fn widest_state(&self) -> usize {
        self.stack.directions.iter().map(Direction::h_stride).max().unwrap_or(0)
    }

    /// Runs all layers over `steps` steps.
    fn advance(&mut self, steps: usize, x: &[E], output: &mut [E]) {
        let batch = Batch::Equal { steps, rows: self.batch };
        let together = self.parts.len() > 1;
        if together {
            self.share();
        } else if self.holders > 1 {
            self.gather();
        }
        let (config, widest) = (&self.stack.config, self.widest_state());
        let between = (config.num_layers > 1).then(|| {
            self.between
                .each_mut()
                .map(|buffer| RowsOut::packed(buffer, &batch, config.output_size()))
        });
        let advance = Advance {
            stack: &self.stack,
            batch,
            input: RowsIn::packed(x, &batch, config.input_size),
            between,
            output: RowsOut::packed(output, &batch, config.output_size()),
        };
        if together {
            let members = self.parts.len();
            self.exchange.prepare(members, self.batch * widest);
            let exchange = &self.exchange;
            let work = self.stack.work(steps * self.batch);
            let met = threads::together(&mut self.parts, work, |k, part| {
                // SAFETY: each `k` below `members` is called once, all at the same time.
                let member = unsafe { exchange.member(k, members) };
                let _watch = Watch(member);
                // SAFETY: the members share out the units.
                unsafe { advance.run(part, Others::Units(member)) }
            });
            if met {
                return;
            }
            gather(&self.stack, self.batch, &mut self.parts, &mut self.holders);
        }
        // SAFETY: nothing else is running.
        unsafe { advance.run(&mut self.parts[0], Others::None) }
    }

    /// Whether a step is long enough to be shared out.
    fn is_long(&self) -> bool {
        self.stack.work(self.batch) >= WORTH_SHARING
    }

    /// Gives every part the state.
    fn share(&mut self) {
        if let ([first, others @ ..], 1) = (&mut self.parts[..], self.holders) {
            for other in others {
                for (to, from) in other.carries.iter_mut().zip(&first.carries) {
                    to.copy_from(from);
                }
            }
            self.holders = self.parts.len();
        }
    }

    /// Gives the first part the whole state.
    fn gather(&mut self) {
        gather(&self.stack, self.batch, &mut self.parts, &mut self.holders);
    }

    /// The state after the last step: `h: [L, B, P]` and, for an LSTM, `c: [L, B, H]`.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub fn state(&self) -> (Tensor<E>, Option<Tensor<E>>) {
        let Stack { config, directions, .. } = &*self.stack;
        let (layers, batch) = (config.num_layers, self.batch);
        let zeros = |size| {
            let zeros = Tensor::full(&[layers, batch, size], E::ZERO);
            zeros.unwrap_or_else(|error| panic!("{error}"))
        };
        let mut h = zeros(config.output_size());
        let cells = if config.mode.has_cell_state() { config.hidden_size } else { 0 };
        let mut c = zeros(cells);
        // SAFETY: the layouts are those of the tensors just made.
        let (h_rows, c_rows) = unsafe { (state_rows(&mut h, batch), state_rows(&mut c, batch)) };
        let c_rows = (cells > 0).then_some(&c_rows);
        for (k, part) in self.parts[..self.holders].iter().enumerate() {
            for (layer, (direction, carry)) in directions.iter().zip(&part.carries).enumerate() {
                let blocks = share_of(k, self.holders, direction.w_hh.blocks);
                let units = direction.units_of(&blocks, config.hidden_size);
                // SAFETY: the tensors are borrowed exclusively.
                unsafe { carry.store(direction, layer, 0..batch, units, &h_rows, c_rows) }
            }
        }
        (h, (cells > 0).then_some(c))
    }

    /// Continues from `state`, of the shapes that [`state`](Self::state) returns.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Dimensions`] or [`Error::CellState`] if it is no state of this
    /// stream; the state is unchanged then.
    pub fn set_state(&mut self, state: State<'_, E>) -> Result<(), Error> {
        let Stack { config, directions, .. } = &*self.stack;
        let (h, c) = InitialState::check(config, self.batch, state)?.rows(None);
        let carries = &mut self.parts[0].carries;
        for (layer, (direction, carry)) in directions.iter().zip(carries).enumerate() {
            carry.load(direction, layer, 0..self.batch, Some(h), c);
        }
        self.holders = 1;
        Ok(())
    }

    /// Begins anew from zero states.
    pub fn reset(&mut self) {
        self.parts[0].carries.iter_mut().for_each(Carry::clear);
        self.holders = 1;
    }
}

/// Gives the first of `parts` the whole state, of which the first `holders` have a share each.
fn gather<E: Element>(stack: &Stack<E>, batch: usize, parts: &mut [Part<E>], holders: &mut usize) {
    let [first, others @ ..] = parts else { return };
    for (k, other) in others[..*holders - 1].iter().enumerate() {
        let carries = first.carries.iter_mut().zip(&other.carries);
        for (direction, (to, from)) in stack.directions.iter().zip(carries) {
            let blocks = share_of(k + 1, *holders, direction.w_hh.blocks);
            to.copy_cells(from, direction, batch, blocks);
        }
    }
    *holders = 1;
}

#[cold]
fn wrong_length(expected: usize, got: usize) -> Error {
    Error::Shape { tensor: "x", expected: vec![expected], got: vec![got] }
}

/// The rows of `state: [L, B, size]`, with the step standing for the layer.
///
/// # Safety
/// `state` must have `batch` as its second dimension.
unsafe fn state_rows<E: Element>(state: &mut Tensor<E>, batch: usize) -> RowsOut<'_, E> {
    let size = state.shape()[2];
    let layout = Layout::strided((batch * size) as isize, size as isize, None);
    // SAFETY: the caller's.
    unsafe { RowsOut::new(state.data_mut(), layout, size) }
}

impl<'a, E: Element> State<'a, E> {
    /// The state that [`Stream::state`] returned.
    pub fn from_tensors(h: &'a Tensor<E>, c: Option<&'a Tensor<E>>) -> Self {
        Self { h: View::from(h), c: c.map(View::from) }
    }
}
