//! A packed matrix as tiles read it.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per block")]

use tidegate_simd::{Element, Simd};

use super::ahead::Weights;
use super::chains::Division;
use super::pack::Packed;
use super::stored::Stored;
use crate::cell::List;

/// A packed matrix by value: what a tile needs of it stays in registers.
#[derive(Copy, Clone)]
pub(super) struct Matrix<T> {
    data: *const T,
    /// Number of inputs.
    pub(super) inputs: usize,
    /// How they are divided among chains.
    division: *const Division,
    /// Number of blocks of units.
    pub(super) blocks: usize,
    /// Units in the last block.
    last: usize,
}

/// What a matrix is packed for: gates, units in a block, bytes of an item.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct Form(u64);

impl Form {
    /// A number, which takes one comparison.
    #[inline(always)]
    pub(super) const fn new(gates: usize, lanes: usize, item: usize) -> Self {
        Self((gates << 16 | lanes << 8 | item) as u64)
    }
}

/// A matrix that is checked but for its [`Form`].
#[derive(Copy, Clone, Debug)]
pub(super) struct AnyMatrix {
    data: *const u8,
    inputs: usize,
    division: *const Division,
    blocks: usize,
    last: usize,
}

impl AnyMatrix {
    /// The matrix `w`, which must be kept as `W` says, for a row `alone` or for several, and its form.
    #[inline(always)]
    pub(super) fn new<E: Element, W: Stored<E>>(w: &Packed<E>, alone: bool) -> (Self, Form) {
        let data = w.for_rows::<W>(alone);
        assert!(data.len() >= w.held.len() * w.block_len());
        let (inputs, blocks, last) = (w.inputs, w.blocks, w.units_of_last());
        // Where the first block would lie.
        let data = data.as_ptr().wrapping_sub(w.held.start * w.block_len());
        let (data, division) = (data.cast(), &raw const w.division);
        let form = Form::new(w.gates, w.lanes, size_of::<W::Item>());
        (Self { data, inputs, division, blocks, last }, form)
    }

    /// Number of inputs.
    #[inline(always)]
    pub(super) fn inputs(self) -> usize {
        self.inputs
    }

    /// Number of blocks of units.
    #[inline(always)]
    pub(super) fn blocks(self) -> usize {
        self.blocks
    }

    /// The matrix, which must have the form for items `T`.
    #[inline(always)]
    pub(super) fn of<T>(self) -> Matrix<T> {
        let Self { data, inputs, division, blocks, last } = self;
        Matrix { data: data.cast(), inputs, division, blocks, last }
    }
}

impl<T: Copy> Matrix<T> {
    /// The matrix `w`, which must be packed for `L`'s gates and `S`'s vectors and kept as `W` says,
    /// for a row `alone` or for several.
    #[inline(always)]
    pub(super) fn new<E, S, L, W>(w: &Packed<E>, alone: bool) -> Self
    where
        E: Element,
        S: Simd<E>,
        L: List<S::V>,
        W: Stored<E, Item = T>,
    {
        let (any, form) = AnyMatrix::new::<E, W>(w, alone);
        assert_eq!(form, Form::new(L::LEN, S::BLOCK, size_of::<T>()));
        any.of()
    }

    /// How the inputs are divided among chains of which `Q` run side by side.
    ///
    /// Side by side, what a small step would take long to compute is read; one after the other, all follows from the
    /// number of inputs, which stays in a register from tile to tile.
    #[inline(always)]
    pub(super) fn division<const Q: usize>(self) -> Division {
        match Q {
            1 => Division::of(self.inputs),
            // SAFETY: it is that of the packed matrix that the pointer to the weights was taken from.
            _ => unsafe { *self.division },
        }
    }

    /// Bytes of the weights.
    #[inline(always)]
    pub(super) fn bytes<E: Element, S: Simd<E>, L: List<S::V>>(self) -> usize {
        self.width::<E, S, L>() * self.inputs * size_of::<T>()
    }

    /// Whether the units of `block` fit into the vectors of [`Simd::low`].
    #[inline(always)]
    pub(super) fn is_low<E: Element, S: Simd<E>>(self, block: usize) -> bool {
        block + 1 == self.blocks && self.last <= S::Low::LANES
    }

    /// Elements of one row of sums.
    #[inline(always)]
    pub(super) fn width<E: Element, S: Simd<E>, L: List<S::V>>(self) -> usize {
        self.blocks * (L::LEN * S::BLOCK)
    }

    /// The weights of `block`, to be asked for: it need not exist.
    #[inline(always)]
    pub(super) fn weights<S: Simd<E>, E: Element, L: List<S::V>>(self, block: usize) -> Weights {
        let vectors = L::LEN * S::BLOCK;
        let first = self.data.wrapping_add(block * self.inputs * vectors).cast();
        Weights { first, inputs: self.inputs, bytes: vectors * size_of::<T>() }
    }

    /// Where `N` blocks from `block` on begin, which the matrix must hold.
    #[inline(always)]
    pub(super) fn blocks_at<E, S, L, const N: usize>(self, block: usize) -> [*const T; N]
    where
        E: Element,
        S: Simd<E>,
        L: List<S::V>,
    {
        let mut at = [self.data; N];
        for (n, at) in at.iter_mut().enumerate() {
            *at = at.wrapping_add((block + n) * self.inputs * (L::LEN * S::BLOCK));
        }
        at
    }
}
