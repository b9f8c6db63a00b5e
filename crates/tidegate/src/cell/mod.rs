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
    /// A list of as many others.
    type Of<U: Copy>: List<U>;
    /// A list with `value` everywhere.
    fn all(value: T) -> Self;
}

impl<T: Copy, const N: usize> List<T> for [T; N] {
    const LEN: usize = N;
    type Of<U: Copy> = [U; N];
    #[inline(always)]
    fn all(value: T) -> Self {
        [value; N]
    }
}

/// Values of a row of gradients, by one half of the gates' sums.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Window {
    /// The first of them.
    pub(crate) first: usize,
    /// The gate of each, in PyTorch's numbers.
    pub(crate) gates: &'static [usize],
}

/// By the gates' sums, and by the state that entered apart from what comes through the gates.
pub(crate) type Gradients<C, T> = (<C as Cell>::Deltas<T>, <C as Cell>::State<T>);

/// One step of one recurrent cell, for as many hidden units as a vector has lanes.
///
/// The driver computes every gate's sum, `b + W_ih x + W_hh h` in the order that `NUMERICS.md` defines. A gate named in
/// [`SPLIT`](Cell::SPLIT) wants the two halves apart: `b_ih + W_ih x` and `b_hh + W_hh h`.
pub(crate) trait Cell: Sized + 'static {
    /// One entry per gate, in PyTorch's order.
    type Gates<T: Copy>: List<T>;
    /// One entry per state tensor; the first is `h`, the cell's output.
    type State<T: Copy>: List<T>;
    /// What backward needs of a step, beside the state that entered it.
    type Saved<T: Copy>: List<T>;
    /// The derivatives of the loss by the gates' sums.
    type Deltas<T: Copy>: List<T>;

    /// Whether the gate's two halves are kept apart.
    const SPLIT: &'static [bool];
    /// Which of the deltas are by the recurrent halves.
    const RECURRENT: Window;
    /// Which of the deltas are by the input halves.
    const INPUT: Window;
    /// Whether `h` reaches the next one beside the gates.
    const DIRECT: bool;

    /// The next state, and what to save for backward.
    ///
    /// `h` holds each gate's whole sum, or its recurrent half where the gate is split; `x` holds
    /// the input half of the split gates and nothing of use elsewhere.
    ///
    /// Calls `meanwhile` with 0, then with 1, where a processor would wait for activations: for two parts of something that
    /// has nothing to do with them.
    fn forward<E: Element, S: Simd<E>>(
        s: S,
        x: Self::Gates<S::V>,
        h: Self::Gates<S::V>,
        state: Self::State<S::V>,
        meanwhile: impl FnMut(usize),
    ) -> (Self::State<S::V>, Self::Saved<S::V>);

    /// The derivatives of the loss, from those by the `next` state.
    ///
    /// `saved` is what forward saved, `state` what entered it.
    fn backward<E: Element, S: Simd<E>>(
        s: S,
        saved: Self::Saved<S::V>,
        state: Self::State<S::V>,
        next: Self::State<S::V>,
    ) -> Gradients<Self, S::V>;
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

/// Number of values that `mode` saves of each unit.
pub(crate) fn saved_values(mode: Mode) -> usize {
    struct Values;
    impl Visitor for Values {
        type Output = usize;
        fn visit<C: Cell>(self) -> usize {
            <C::Saved<()> as List<()>>::LEN
        }
    }
    visit(mode, Values)
}

/// How the rows of gradients of `mode` are made up: values, and the windows of recurrent and input halves.
pub(crate) fn windows(mode: Mode) -> (usize, [Window; 2]) {
    struct Windows;
    impl Visitor for Windows {
        type Output = (usize, [Window; 2]);
        fn visit<C: Cell>(self) -> Self::Output {
            (<C::Deltas<()> as List<()>>::LEN, [C::RECURRENT, C::INPUT])
        }
    }
    visit(mode, Windows)
}
