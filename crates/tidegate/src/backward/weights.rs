//! The weights in training, packed by every call, as they change between calls.
//!
//! The way back has no use for what forward read, nor forward for what the way back reads, so that both are packed in the same
//! memory: `W_hh^T` where `W_hh` was, and likewise the others. Where no gradient of the input is wanted, `W_ih^T` of the lowest
//! layer is not needed, and the deltas lie in its memory.

#![allow(unsafe_code, reason = "weights that are not packed are read through pointers")]

use tidegate_simd::Level;

use super::MOST_BYTES;
use super::transposed::{Source, Transposed};
use crate::buffer::Buffer;
use crate::kernel::pack::{Layouts, Packed};
use crate::stack::{Stack, pack_all};
use crate::threads::num_threads;
use crate::weights::{GIVEN_CHUNK_ROWS, weights_of};
use crate::{Config, Element, memory};

/// Memory of weights between calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrainingWeights<E> {
    /// Of the matrices of each layer and direction: `[L * D, MATRICES]`.
    matrices: Vec<Layouts<E>>,
    /// The same of the transposed ones, where forward's are needed at the same time.
    transposed: Vec<Layouts<E>>,
    /// Of the deltas of each direction, where they have some of their own.
    deltas: [Layouts<E>; 2],
    /// Nobody writes to them.
    zeros: Buffer<E>,
}

/// `W_ih`, `W_hh`, `W_hr`.
const MATRICES: usize = 3;

/// Bytes of input weights above which every product of forward packs what it reads: of their memory the way back has use for that
/// of the deltas of a [pass](super::MOST_BYTES) alone. Every thread packs them for its rows, so these must be
/// enough. A training step of a GRU of 1536 units (28 MB, 400 rows)
/// took 0.92 of the time, of GRUs and LSTMs of 1024 (12 and 16 MB, 1,600 rows) 1.0 to 1.05 (Ice Lake) and 1.005 to 1.01 (Zen 4), in
/// 5 and 9 MB less.
const PACKED_AGAIN: usize = MOST_BYTES + MOST_BYTES / 4;

/// Which weights a way back needs.
#[derive(Copy, Clone, Debug)]
pub(super) struct Wanted {
    /// Number of directions, `D`.
    pub(super) directions: usize,
    /// Rows of all steps.
    pub(super) rows: usize,
    /// The lowest layer that it goes to.
    pub(super) lowest: usize,
    /// Whether the gradient of the input is wanted.
    pub(super) input: bool,
    /// Whether steps are computed again, so that what forward reads is needed too.
    pub(super) again: bool,
}

impl Wanted {
    /// Those of the `index`-th layer and direction, which has these parameters.
    fn sources<'a, E: Element>(
        self,
        index: usize,
        own: &[&'a [E]],
        config: &Config,
    ) -> [Option<Source<'a, E>>; MATRICES] {
        let layer = index / self.directions;
        let is_wanted = layer >= self.lowest;
        let needs_input = if layer == 0 { self.input } else { layer > self.lowest };
        [
            needs_input.then(|| Source::w_ih(own, config)),
            is_wanted.then(|| Source::w_hh(own, config)),
            (is_wanted && config.proj_size > 0).then(|| Source::w_hr(own, config)),
        ]
    }
}

/// The weights as the way back reads them.
#[derive(Debug)]
pub(super) struct BackWeights<E> {
    /// What forward reads, if steps are computed again; else its shapes alone.
    pub(super) stack: Stack<E>,
    /// `[L * D]`.
    pub(super) transposed: Vec<Transposed<E>>,
    /// Room for the deltas of each direction.
    pub(super) deltas: [Layouts<E>; 2],
    /// What the sums of any of the transposed start from.
    pub(super) zeros: Buffer<E>,
}

impl<E: Element> TrainingWeights<E> {
    /// What forward reads of `parameters` for so many `rows` of all steps; to be [kept](Self::keep).
    ///
    /// # Safety
    /// The `parameters` must stay, and nobody may write to them, as long as calls of it run.
    pub(crate) unsafe fn forward(
        &mut self,
        config: &Config,
        level: Level,
        parameters: &[&[E]],
        rows: usize,
    ) -> Stack<E> {
        let is_enough = rows / num_threads() >= GIVEN_CHUNK_ROWS;
        let each = config.direction_parameters(0).len();
        let mut stack = Stack::new(*config, level, |index, k, shape| {
            let weight = weights_of(&parameters[index * each..][..each])[k];
            if k == 0 && is_enough && size_of_val(weight) > PACKED_AGAIN {
                // SAFETY: the caller's.
                return unsafe { Packed::given(weight, shape) };
            }
            Packed::within(take(&mut self.matrices, index * MATRICES + k), shape)
        });
        stack.set(parameters);
        stack
    }

    /// Keeps the memory of what forward has read.
    pub(crate) fn keep(&mut self, stack: Stack<E>) {
        for (index, mut direction) in stack.directions.into_iter().enumerate() {
            for (k, matrix) in direction.matrices().enumerate().filter(|(_, own)| !own.is_given()) {
                put(&mut self.matrices, index * MATRICES + k, matrix.take_memory());
            }
        }
    }

    /// What the way back reads of `parameters`; to be [kept](Self::keep_back).
    ///
    /// # Safety
    /// As [`forward`](Self::forward).
    pub(super) unsafe fn back(
        &mut self,
        config: &Config,
        level: Level,
        parameters: &[&[E]],
        wanted: Wanted,
    ) -> BackWeights<E> {
        let stack = match wanted.again {
            // SAFETY: the caller's.
            true => unsafe { self.forward(config, level, parameters, wanted.rows) },
            false => Stack::new(*config, level, |_, _, shape| Packed::empty(shape)),
        };
        let each = config.direction_parameters(0).len();
        let count = stack.directions.len();
        let (mut transposed, mut sources) =
            (memory::with_capacity(count), memory::with_capacity(count));
        for (index, own) in parameters.chunks_exact(each).enumerate() {
            let of = wanted.sources(index, own, config);
            let memory = self.of_transposed(wanted);
            let [w_ih, w_hh, w_hr] = [0, 1, 2].map(|k| {
                let within =
                    |of: &Source<'_, E>| of.within(take(memory, index * MATRICES + k), level);
                of[k].as_ref().map(within)
            });
            transposed.push(Transposed { w_ih, w_hh, w_hr });
            sources.push(of);
        }
        let (mut works, mut weights, mut widest) = (Vec::new(), 0, 0);
        for (Transposed { w_ih, w_hh, w_hr }, of) in transposed.iter_mut().zip(&sources) {
            for (matrix, of) in [w_ih, w_hh, w_hr].into_iter().zip(of) {
                if let (Some(matrix), Some(of)) = (matrix, of) {
                    weights += matrix.len();
                    widest = widest.max(matrix.width());
                    of.pack(matrix, &mut works);
                }
            }
        }
        pack_all(works, weights);
        let deltas = [0, 1].map(|direction| core::mem::take(self.of_deltas(direction, wanted)));
        let mut zeros = core::mem::take(&mut self.zeros);
        zeros.reserve(widest);
        BackWeights { stack, transposed, deltas, zeros }
    }

    /// Keeps the memory of what the way back has read.
    pub(super) fn keep_back(&mut self, back: BackWeights<E>, wanted: Wanted) {
        let BackWeights { stack, transposed, deltas, zeros } = back;
        self.zeros = zeros;
        if wanted.again {
            self.keep(stack);
        }
        for (index, Transposed { w_ih, w_hh, w_hr }) in transposed.into_iter().enumerate() {
            for (k, matrix) in [w_ih, w_hh, w_hr].into_iter().enumerate() {
                if let Some(mut packed) = matrix {
                    put(self.of_transposed(wanted), index * MATRICES + k, packed.take_memory());
                }
            }
        }
        for (direction, deltas) in deltas.into_iter().enumerate() {
            *self.of_deltas(direction, wanted) = deltas;
        }
    }

    /// Where transposed matrices have their memory.
    fn of_transposed(&mut self, wanted: Wanted) -> &mut Vec<Layouts<E>> {
        if wanted.again { &mut self.transposed } else { &mut self.matrices }
    }

    /// Where the deltas of a direction have theirs.
    fn of_deltas(&mut self, direction: usize, wanted: Wanted) -> &mut Layouts<E> {
        // That of the lowest layer's `W_ih`, if nothing else lies there.
        let free = !wanted.again && !wanted.input && direction < wanted.directions;
        match self.matrices.get_mut(direction * MATRICES) {
            Some(w_ih) if free => w_ih,
            _ => &mut self.deltas[direction],
        }
    }
}

/// Takes the `at`-th of `memory`, if it is there.
fn take<E>(memory: &mut [Layouts<E>], at: usize) -> Layouts<E>
where
    Layouts<E>: Default,
{
    memory.get_mut(at).map(core::mem::take).unwrap_or_default()
}

/// Puts the `at`-th of `memory` back.
fn put<E: Element>(memory: &mut Vec<Layouts<E>>, at: usize, back: Layouts<E>) {
    memory::lengthen(memory, at + 1);
    memory[at] = back;
}
