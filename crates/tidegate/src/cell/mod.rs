//! The recurrent cells. What distinguishes one from another is in its own file.

mod elman;
mod gru;
mod lstm;

use tidegate_simd::{Element, Simd};

pub(crate) use elman::{ElmanRelu, ElmanTanh};
pub(crate) use gru::Gru;
pub(crate) use lstm::Lstm;

use crate::Mode;

/// A list of fixed length: one entry per gate or per state tensor.
pub(crate) trait List<T: Copy>: Copy + AsRef<[T]> + AsMut<[T]> {
    /// Number of entries.
    const LEN: usize;
    /// A list with `value` everywhere.
    fn all(value: T) -> Self;
}

impl<T: Copy, const N: usize> List<T> for [T; N] {
    const LEN: usize = N;
    #[inline(always)]
    fn all(value: T) -> Self {
        [value; N]
    }
}

/// One step of one recurrent cell, for as many hidden units as a vector has lanes.
///
/// The driver computes every gate's sum as one chain of fused multiply-adds: the bias, then
/// `W_ih x`, then `W_hh h`. A gate named in [`SPLIT`](Cell::SPLIT) wants the two halves apart:
/// `b_ih + W_ih x` and `b_hh + W_hh h`.
pub(crate) trait Cell: 'static {
    /// One entry per gate, in PyTorch's order.
    type Gates<T: Copy>: List<T>;
    /// One entry per state tensor; the first is `h`, the cell's output.
    type State<T: Copy>: List<T>;

    /// Whether the gate's two halves are kept apart.
    const SPLIT: &'static [bool];

    /// The next state.
    ///
    /// `h` holds each gate's whole sum, or its recurrent half where the gate is split; `x` holds
    /// the input half of the split gates and nothing of use elsewhere.
    fn forward<E: Element, S: Simd<E>>(
        s: S,
        x: Self::Gates<S::V>,
        h: Self::Gates<S::V>,
        state: Self::State<S::V>,
    ) -> Self::State<S::V>;
}

/// Something to be done with a cell whose type is chosen while the program runs.
pub(crate) trait Visitor {
    /// What is returned.
    type Output;
    /// Does it with cell `C`.
    fn visit<C: Cell>(self) -> Self::Output;
}

/// The table of cells: hands `visitor` the cell of `mode`.
pub(crate) fn visit<V: Visitor>(mode: Mode, visitor: V) -> V::Output {
    match mode {
        Mode::Lstm => visitor.visit::<Lstm>(),
        Mode::Gru => visitor.visit::<Gru>(),
        Mode::RnnTanh => visitor.visit::<ElmanTanh>(),
        Mode::RnnRelu => visitor.visit::<ElmanRelu>(),
    }
}

/// Which gates of `mode` keep their halves apart; one entry per gate.
pub(crate) fn split_gates(mode: Mode) -> &'static [bool] {
    struct Split;
    impl Visitor for Split {
        type Output = &'static [bool];
        fn visit<C: Cell>(self) -> Self::Output {
            C::SPLIT
        }
    }
    visit(mode, Split)
}
