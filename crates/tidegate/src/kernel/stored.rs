//! How weights are kept in memory.
#![allow(unsafe_code, reason = "loads take pointers")]

use std::sync::OnceLock;

use bytemuck::Zeroable;
use tidegate_simd::{Bf16, Element, Simd};

use super::chains::Division;
use crate::buffer::Buffer;

/// A way to keep weights of type `E`.
pub(crate) trait Stored<E: Element>: 'static {
    /// What is kept of a weight.
    type Item: Copy + Zeroable;

    /// Loads `LANES` weights.
    ///
    /// # Safety
    /// `from` must be valid for reading as many items.
    unsafe fn load<S: Simd<E>>(s: S, from: *const Self::Item) -> S::V;

    /// `weights`, which must be kept this way, in the order in which a product reads them whose rows are one `alone`, or
    /// more.
    fn items(weights: &Weights<E>, alone: bool, form: BlockForm) -> &[Self::Item];
}

/// As they are.
pub(crate) struct Full;

/// As bf16, half as large.
pub(crate) struct Half;

impl<E: Element> Stored<E> for Full {
    type Item = E;

    #[inline(always)]
    unsafe fn load<S: Simd<E>>(s: S, from: *const E) -> S::V {
        // SAFETY: the caller's.
        unsafe { s.load(from) }
    }

    #[inline(always)]
    fn items(weights: &Weights<E>, alone: bool, form: BlockForm) -> &[E] {
        match weights {
            Weights::Full(layouts) => layouts.for_rows(alone, form),
            Weights::Held(items) => items,
            Weights::Half(_) => unreachable!("weights kept as bf16"),
            Weights::Given(_) => unreachable!("weights that are not packed"),
        }
    }
}

impl<E: Element> Stored<E> for Half {
    type Item = Bf16;

    #[inline(always)]
    unsafe fn load<S: Simd<E>>(s: S, from: *const Bf16) -> S::V {
        // SAFETY: the caller's.
        unsafe { s.load_bf16(from) }
    }

    #[inline(always)]
    fn items(weights: &Weights<E>, alone: bool, form: BlockForm) -> &[Bf16] {
        match weights {
            Weights::Half(layouts) => layouts.for_rows(alone, form),
            _ => unreachable!("weights kept as they are"),
        }
    }
}

/// Weights, kept one way or the other.
#[derive(Clone, Debug)]
pub(crate) enum Weights<E> {
    Full(Layouts<E>),
    Half(Layouts<Bf16>),
    /// Not packed.
    Given(Given<E>),
    /// A block of those, packed in the order in which one product reads it.
    Held(Buffer<E>),
}

/// A matrix of the caller, row by row.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Given<E>(*const [E]);

// SAFETY: what it points to is only read.
unsafe impl<E: Sync> Send for Given<E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Given<E> {}

impl<E> Given<E> {
    pub(super) fn new(weight: &[E]) -> Self {
        Self(weight)
    }

    /// The elements.
    ///
    /// # Safety
    /// They must still be there, and nobody may write to them.
    pub(super) unsafe fn read(&self) -> &[E] {
        // SAFETY: the caller's.
        unsafe { &*self.0 }
    }
}

/// What a block of a packed matrix is made up of, in items.
#[derive(Copy, Clone, Debug)]
pub(crate) struct BlockForm {
    pub(super) inputs: usize,
    pub(super) gates: usize,
    pub(super) lanes: usize,
    /// Of the last block, for a row alone.
    pub(super) last_lanes: usize,
}

impl BlockForm {
    fn len(&self) -> usize {
        self.inputs * self.gates * self.lanes
    }

    /// Writes the items of whole blocks in the order for a row alone to `copy`; whether the last of them is the `last` of
    /// the matrix.
    fn order<T: Copy>(self, items: &[T], copy: &mut [T], last: bool) {
        let Self { inputs, gates, lanes, last_lanes } = self;
        let (vectors, block) = (gates * lanes, self.len());
        for at in (0..items.len()).step_by(block) {
            let (from, to) = (&items[at..][..block], &mut copy[at..][..block]);
            let kept = if last && at + block == items.len() { last_lanes } else { lanes };
            for (to, k) in to.chunks_exact_mut(gates * kept).zip(Division::of(inputs).order()) {
                let from = from[k * vectors..][..vectors].chunks_exact(lanes);
                for (to, from) in to.chunks_exact_mut(kept).zip(from) {
                    to.copy_from_slice(&from[..kept]);
                }
            }
        }
    }
}

/// The items of a packed matrix, `[blocks, K, G, lanes]`, in one order or two.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layouts<T> {
    items: Buffer<T>,
    /// The same with the inputs in the order of [`Division::order`] and a last block of vectors that may be shorter, made
    /// when first wanted.
    for_one: OnceLock<Buffer<T>>,
}

/// Some blocks of a packed matrix, to be written.
pub(super) struct Part<'a, T> {
    /// The first of the blocks.
    pub(super) first: usize,
    pub(super) items: &'a mut [T],
    for_one: Option<&'a mut [T]>,
    /// Whether the last of them is the matrix's.
    is_last: bool,
    form: BlockForm,
}

/// Items of a part, about: packing them takes some 20 microseconds.
const PART: usize = 1 << 16;

impl<T: Copy + Zeroable> Layouts<T> {
    /// Room for `len` items in blocks of `form`, in memory that may have held others. Lanes without a unit, of the last block,
    /// are zero.
    pub(super) fn reshaped(mut self, form: BlockForm, len: usize) -> Self {
        let last = len.saturating_sub(form.len());
        self.items.resize(len);
        self.items[last..].fill(T::zeroed());
        if let Some(copy) = self.for_one.get_mut() {
            copy.resize(len);
        }
        self
    }

    /// The memory of the items, for something else meanwhile.
    pub(crate) fn memory(&mut self) -> &mut Buffer<T> {
        &mut self.items
    }

    /// All blocks, in parts that can be written at the same time.
    pub(super) fn parts(&mut self, form: BlockForm) -> impl ExactSizeIterator<Item = Part<'_, T>> {
        let (block, len) = (form.len().max(1), self.items.len());
        let blocks = (PART / block).max(1);
        let mut copies = self.for_one.get_mut().map(|copy| copy.chunks_mut(blocks * block));
        let items = self.items.chunks_mut(blocks * block).enumerate();
        items.map(move |(k, items)| {
            let for_one = copies.as_mut().and_then(Iterator::next);
            let first = k * blocks;
            let is_last = first * block + items.len() == len;
            Part { first, items, for_one, is_last, form }
        })
    }

    /// Number of items.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The items in the order in which a product reads them whose rows are one `alone`, or more.
    #[inline(always)]
    pub(super) fn for_rows(&self, alone: bool, form: BlockForm) -> &[T] {
        if alone { self.for_one.get_or_init(|| self.ordered(form)) } else { &self.items }
    }

    /// A copy for a row alone.
    #[cold]
    fn ordered(&self, form: BlockForm) -> Buffer<T> {
        let mut copy = Buffer::zeros(self.len());
        form.order(&self.items, &mut copy, true);
        copy
    }
}

impl<T: Copy> Part<'_, T> {
    /// Takes over what was written to the items.
    pub(super) fn finish(self) {
        if let Some(copy) = self.for_one {
            self.form.order(self.items, copy, self.is_last);
        }
    }
}
