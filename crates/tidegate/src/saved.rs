//! What a forward call in training keeps for the way back.
#![allow(unsafe_code, reason = "rows are shared out among threads")]

use core::ops::Range;

use tidegate_simd::Level;

use crate::backward::chunk_steps;
use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::cell::saved_values;
use crate::check::Dims;
use crate::rows::{Layout, RowsIn, RowsOut};
use crate::weights::Direction;
use crate::{Config, Element, Error, memory};

/// What [`RnnBase::forward_train`](crate::RnnBase::forward_train) keeps for
/// [`RnnBase::backward`](crate::RnnBase::backward).
///
/// Made empty, it grows in the first call and is then reused. It holds, for every row of all steps,
/// each layer and direction (`H` rounded up to whole vectors of 16 `f32` or 8 `f64` at most):
///
/// | cell | gates | states that entered | elements |
/// |---|---|---|---|
/// | LSTM | i, f, g, o | h, c | 6 H |
/// | LSTM with projection | i, f, g, o, and h before it | h, c | 6 H + P |
/// | GRU | r, z, n, and `W_hn h + b_hn` | h | 5 H |
/// | RNN | h' | h | 2 H |
///
/// With [`checkpoints`](Self::with_checkpoints) every `k` steps it holds instead, for every sequence and every `k` steps, the
/// states that entered (`h`, and of an LSTM `c`).
///
/// Between layers it holds their outputs (`D * P`) and, with dropout, its masks (as many). The input is not
/// copied: it is passed to `backward` again.
///
/// The [`Workspace`](crate::Workspace) has what calls need beside. Of the weights, as large as the parameters (once a call
/// had a single row, twice): forward's and then, in the same memory, those of the way back; with checkpoints both. Of the way back the deltas of some rows at a time (4 H a row; of an
/// RNN H; 0.5 to 8 MB), which lie where `W_ih` was if the gradient of the input is not wanted; the derivatives by two layers' outputs;
/// and with checkpoints the rows of `k` steps of one layer.
#[derive(Clone, Debug, Default)]
pub struct Saved<E> {
    /// The call it comes from; none before the first.
    pub(crate) call: Option<SavedCall>,
    /// As [`Workspace`](crate::Workspace) has it; all rows of a batch of equal lengths have no order.
    pub(crate) order: Vec<usize>,
    /// As [`Workspace`](crate::Workspace) has it.
    pub(crate) offsets: Vec<usize>,
    /// Steps between checkpoints; 0 if every step is saved.
    pub(crate) every: usize,
    /// With checkpoints, the states after cuts, `[L * D, B, size]`; empty if they are zero.
    pub(crate) reset_h: Buffer<E>,
    pub(crate) reset_c: Buffer<E>,
    /// Whether each row of all steps has a cut before it; empty if none has.
    pub(crate) cuts: Vec<bool>,
    /// What dropout multiplied with: `[L - 1, rows of all steps, D*P]`.
    pub(crate) masks: Buffer<E>,
    /// What entered the upper layers: `[L - 1, rows of all steps, D*P]`.
    pub(crate) between: Buffer<E>,
    /// One per layer and direction.
    pub(crate) scans: Vec<SavedScan<E>>,
}

/// Whose call something was saved from.
#[derive(Copy, Clone, Debug)]
pub(crate) struct SavedCall {
    pub(crate) config: Config,
    pub(crate) level: Level,
    pub(crate) dims: Dims,
    pub(crate) dropout: bool,
    /// Whether the states after cuts were given.
    pub(crate) resets_to: bool,
}

/// The rows of all steps of one layer and direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct SavedScan<E> {
    /// Of each unit what its cell saves, `[rows, blocks, values, lanes]`.
    pub(crate) gates: Buffer<E>,
    /// The `h` that entered, `[rows, h_stride]`.
    pub(crate) h: Buffer<E>,
    /// The `c` that entered, `[rows, units]`; empty for cells without.
    pub(crate) c: Buffer<E>,
    /// The `h` that left, before projection, `[rows, units]`; empty without.
    pub(crate) unprojected: Buffer<E>,
}

impl<E: Element> SavedScan<E> {
    /// Makes room for the rows of `steps`, and tells where they go.
    pub(crate) fn rows<'a>(
        &'a mut self,
        direction: &Direction<E>,
        config: &Config,
        batch: &Batch<'a>,
        steps: Range<usize>,
    ) -> Keep<'a, E> {
        let (units, values) = (direction.units(), saved_values(config.mode));
        let place = |buffer: &'a mut Buffer<E>, width: usize| {
            buffer.reserve((batch.rows_before(steps.end) - batch.rows_before(steps.start)) * width);
            RowsOut::packed_from(buffer, batch, steps.clone(), width)
        };
        Keep {
            h: place(&mut self.h, direction.h_stride()),
            c: config.mode.has_cell_state().then(|| place(&mut self.c, units)),
            steps: Steps::All {
                gates: place(&mut self.gates, units * values),
                unprojected: direction.w_hr.is_some().then(|| place(&mut self.unprojected, units)),
            },
        }
    }

    /// Makes room for the states every `span` steps, and tells where they go.
    pub(crate) fn checkpoints<'a>(
        &'a mut self,
        direction: &Direction<E>,
        config: &Config,
        batch: &Batch<'a>,
        span: usize,
    ) -> Keep<'a, E> {
        let (count, rows) = (batch.steps().div_ceil(span), batch.rows());
        let place = |buffer: &'a mut Buffer<E>, width: usize| {
            buffer.reserve(count * rows * width);
            let layout = Layout::strided((rows * width) as isize, width as isize, None);
            // SAFETY: there is room for as many states, one after the other.
            unsafe { RowsOut::new(buffer, layout, width) }
        };
        Keep {
            h: place(&mut self.h, direction.h_stride()),
            c: config.mode.has_cell_state().then(|| place(&mut self.c, direction.units())),
            steps: Steps::Every { span },
        }
    }

    /// The states that entered at checkpoint `index`, of `rows` sequences in all.
    pub(crate) fn checkpoint(
        &self,
        direction: &Direction<E>,
        index: usize,
        rows: usize,
    ) -> (&[E], &[E]) {
        let part = |buffer: &'_ Buffer<E>, width: usize| index * rows * width..buffer.len();
        let (h, c) = (part(&self.h, direction.h_stride()), part(&self.c, direction.units()));
        (&self.h[h], self.c.get(c).unwrap_or_default())
    }

    /// Number of elements.
    fn len(&self) -> usize {
        [&self.gates, &self.h, &self.c, &self.unprojected].map(|buffer| buffer.len()).iter().sum()
    }
}

/// Where the rows of one layer and direction go that backward needs.
#[derive(Copy, Clone)]
pub(crate) struct Keep<'a, E> {
    /// The states that entered, of a step's rows or, with checkpoints, of all sequences.
    pub(crate) h: RowsOut<'a, E>,
    pub(crate) c: Option<RowsOut<'a, E>>,
    pub(crate) steps: Steps<'a, E>,
}

/// Of which steps something is kept.
#[derive(Copy, Clone)]
pub(crate) enum Steps<'a, E> {
    /// Of all, with what the cell saves.
    All { gates: RowsOut<'a, E>, unprojected: Option<RowsOut<'a, E>> },
    /// The states that enter at the first computed one of every `span` steps, counted from the first in time.
    Every { span: usize },
}

impl<E> Keep<'_, E> {
    /// Whether every step is kept.
    pub(crate) fn keeps_all(&self) -> bool {
        matches!(self.steps, Steps::All { .. })
    }
}

impl<E: Element> Saved<E> {
    /// Without memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// To keep the states of every `every`-th step alone, and compute the steps between again on the way back: the
    /// same bits for a part of the memory and the time of one more forward call. `every` is rounded up to as many steps as have
    /// 128 rows.
    pub fn with_checkpoints(every: usize) -> Self {
        Self { every: every.max(1), ..Self::default() }
    }

    /// Steps between checkpoints of `batch`, in whole chunks of the weights' sums, if there are any.
    pub(crate) fn span(&self, batch: &Batch<'_>) -> Option<usize> {
        let every = self.every.min(batch.steps().max(1));
        (self.every > 0).then(|| every.next_multiple_of(chunk_steps(batch)))
    }

    /// Bytes of memory it has.
    pub fn bytes(&self) -> usize {
        let scans: usize = self.scans.iter().map(SavedScan::len).sum();
        let resets = self.reset_h.len() + self.reset_c.len();
        (self.masks.len() + self.between.len() + resets + scans) * size_of::<E>()
    }

    /// Takes down whose call this is.
    pub(crate) fn begin(
        &mut self,
        call: SavedCall,
        batch: &Batch<'_>,
        order: Option<&[usize]>,
        cuts: &[bool],
    ) {
        self.call = Some(call);
        self.order.clear();
        let order = order.unwrap_or_default();
        memory::reserve(&mut self.order, order.len());
        self.order.extend_from_slice(order);
        self.offsets.clear();
        if let Batch::Ragged { offsets, .. } = batch {
            memory::reserve(&mut self.offsets, offsets.len());
            self.offsets.extend_from_slice(offsets);
        }
        self.cuts.clear();
        memory::reserve(&mut self.cuts, cuts.len());
        self.cuts.extend_from_slice(cuts);
    }

    /// Copies the states after cuts.
    pub(crate) fn keep_reset_state(
        &mut self,
        (h, c): (RowsIn<'_, E>, Option<RowsIn<'_, E>>),
        call: &SavedCall,
    ) {
        let (config, rows) = (&call.config, call.dims.rows);
        let scans = config.num_layers * config.num_directions();
        let copy = |to: &mut Buffer<E>, from: RowsIn<'_, E>, width: usize| {
            to.reserve(scans * rows * width);
            for row in 0..scans * rows {
                from.read(row / rows, row % rows, &mut to[row * width..]);
            }
        };
        copy(&mut self.reset_h, h, config.output_size());
        if let Some(c) = c {
            copy(&mut self.reset_c, c, config.hidden_size);
        }
    }

    /// The batch that was computed, and the position in the caller's of each of its sequences.
    pub(crate) fn batch(&self, call: &SavedCall) -> (Batch<'_>, Option<&[usize]>) {
        let order = (!self.order.is_empty()).then_some(&self.order[..]);
        let rows = call.dims.rows;
        match self.offsets.is_empty() {
            true => (Batch::Equal { steps: call.dims.steps, rows }, order),
            false => (Batch::Ragged { rows, offsets: &self.offsets }, order),
        }
    }

    /// The call this was saved from, which must have been one of a layer of `config` at `level`.
    pub(crate) fn call_of(&self, config: &Config, level: Level) -> Result<&SavedCall, Error> {
        match &self.call {
            Some(call) if call.config == *config && call.level.name() == level.name() => Ok(call),
            Some(call) => Err(Error::ForeignSaved { saved: Some(call.config.to_string()) }),
            None => Err(Error::ForeignSaved { saved: None }),
        }
    }
}
