//! One step, or a chunk of steps, per call.
#![allow(unsafe_code, reason = "the rows handed to a scan are this stream's alone")]

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::check::InitialState;
use crate::rnn::Shared;
use crate::rows::{Batch, Layout, RowsIn, RowsOut};
use crate::scan::{Carry, Scan, Scratch};
use crate::{Element, Error, State, Tensor, View};

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
    shared: Arc<Shared<E>>,
    batch: usize,
    /// One per layer.
    carries: Vec<Carry<E>>,
    scratch: Scratch<E>,
    /// Outputs of the layers below the one that is running, `[N, B, P]`, by turns.
    between: [Buffer<E>; 2],
    /// The last layer's output of one step, `[B, P]`.
    output: Vec<E>,
}

impl<E: Element> Stream<E> {
    pub(crate) fn new(shared: Arc<Shared<E>>, batch: usize) -> Result<Self, Error> {
        let config = &shared.config;
        if config.bidirectional {
            return Err(Error::BidirectionalStream);
        }
        let widest = (config.hidden_size + 64).max(config.input_size) * config.mode.gates();
        if batch.checked_mul(widest).is_none_or(|n| n > isize::MAX as usize / 64) {
            return Err(Error::TooLarge { what: "the batch" });
        }
        let step = Batch::Equal { steps: 1, rows: batch };
        let mut scratch = Scratch::default();
        let mut carries = vec![Carry::default(); config.num_layers];
        for (carry, direction) in carries.iter_mut().zip(&shared.directions) {
            carry.reserve(direction, config.mode, batch);
            scratch.reserve(direction, &step, batch);
            direction.prepare(batch);
        }
        let outputs = batch * config.output_size();
        let between = [Buffer::zeros(outputs), Buffer::zeros(outputs)];
        let output = vec![E::ZERO; outputs];
        Ok(Self { batch, carries, scratch, between, output, shared })
    }

    /// Number of sequences.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Runs one step over `x: [B, I]` and returns the last layer's output, `[B, P]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another length; the state is unchanged then.
    pub fn step(&mut self, x: &[E]) -> Result<&[E], Error> {
        let expected = self.batch * self.shared.config.input_size;
        if x.len() != expected {
            return Err(Error::Shape { tensor: "x", expected: vec![expected], got: vec![x.len()] });
        }
        let mut output = core::mem::take(&mut self.output);
        self.advance(1, x, &mut output);
        self.output = output;
        Ok(&self.output)
    }

    /// Runs the steps of `x: [N, B, I]`, any `N`, and writes the last layer's output to
    /// `output: [N, B, P]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not whole steps, or `output` not as many; the state is unchanged
    /// then.
    pub fn push(&mut self, x: &[E], output: &mut [E]) -> Result<(), Error> {
        let config = &self.shared.config;
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
            self.advance(steps, x, output);
        }
        Ok(())
    }

    /// Runs all layers over `steps` steps.
    fn advance(&mut self, steps: usize, x: &[E], output: &mut [E]) {
        let Shared { ref config, level, ref directions, .. } = *self.shared;
        let batch = Batch::Equal { steps, rows: self.batch };
        let size = config.output_size();
        let [first, second] = &mut self.between;
        if config.num_layers > 1 {
            first.reserve(steps * self.batch * size);
            second.reserve(steps * self.batch * size);
        }
        let (mut above, mut below) = (first, second);
        for (layer, (direction, carry)) in directions.iter().zip(&mut self.carries).enumerate() {
            let input: &[E] = if layer == 0 { x } else { below };
            let last = layer + 1 == config.num_layers;
            let scan = Scan {
                direction,
                batch,
                rows: 0..self.batch,
                blocks: 0..direction.w_hh.blocks,
                member: None,
                reverse: false,
                input: RowsIn::packed(input, &batch, config.layer_input_size(layer)),
                output: RowsOut::packed(
                    if last { &mut *output } else { &mut *above },
                    &batch,
                    size,
                ),
            };
            // SAFETY: the output is borrowed exclusively.
            unsafe { scan.run(config.mode, level, carry, &mut self.scratch) }
            core::mem::swap(&mut above, &mut below);
        }
    }

    /// The state after the last step: `h: [L, B, P]` and, for an LSTM, `c: [L, B, H]`.
    pub fn state(&self) -> (Tensor<E>, Option<Tensor<E>>) {
        let Shared { config, directions, .. } = &*self.shared;
        let (layers, batch) = (config.num_layers, self.batch);
        let mut h = Tensor::full(&[layers, batch, config.output_size()], E::ZERO);
        let cells = if config.mode.has_cell_state() { config.hidden_size } else { 0 };
        let mut c = Tensor::full(&[layers, batch, cells], E::ZERO);
        // SAFETY: the layouts are those of the tensors just made.
        let (h_rows, c_rows) = unsafe { (state_rows(&mut h, batch), state_rows(&mut c, batch)) };
        let c_rows = (cells > 0).then_some(&c_rows);
        for (layer, (direction, carry)) in directions.iter().zip(&self.carries).enumerate() {
            // SAFETY: the tensors are borrowed exclusively.
            unsafe {
                carry.store(direction, layer, 0..batch, 0..config.hidden_size, &h_rows, c_rows)
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
        let Shared { config, directions, .. } = &*self.shared;
        let (h, c) = InitialState::check(config, self.batch, state)?.rows(None);
        for (layer, (direction, carry)) in directions.iter().zip(&mut self.carries).enumerate() {
            carry.load(direction, layer, 0..self.batch, Some(h), c);
        }
        Ok(())
    }

    /// Begins anew from zero states.
    pub fn reset(&mut self) {
        self.carries.iter_mut().for_each(Carry::clear);
    }
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
