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

/// The items of a packed matrix, `[blocks, K, G, lanes]`, in one order or two.
#[derive(Clone, Debug)]
pub(crate) struct Layouts<T> {
    items: Buffer<T>,
    /// The same with the inputs in the order of [`Division::order`] and a last block of vectors that may be shorter, made
    /// when first wanted.
    for_one: OnceLock<Buffer<T>>,
}

impl<T: Copy + Zeroable> Layouts<T> {
    pub(super) fn new(items: Buffer<T>) -> Self {
        Self { items, for_one: OnceLock::new() }
    }

    /// Lets `pack` write other items.
    pub(super) fn set(&mut self, form: BlockForm, pack: impl FnOnce(&mut [T])) {
        pack(&mut self.items);
        if let Some(mut copy) = self.for_one.take() {
            self.order(form, &mut copy);
            _ = self.for_one.set(copy);
        }
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
        self.order(form, &mut copy);
        copy
    }

    /// Writes the items in the order for a row alone to `copy`.
    fn order(&self, BlockForm { inputs, gates, lanes, last_lanes }: BlockForm, copy: &mut [T]) {
        let vectors = gates * lanes;
        let block = inputs * vectors;
        for at in (0..self.len()).step_by(block) {
            let (from, to) = (&self.items[at..][..block], &mut copy[at..][..block]);
            let kept = if at + block == self.len() { last_lanes } else { lanes };
            for (to, k) in to.chunks_exact_mut(gates * kept).zip(Division::of(inputs).order()) {
                let from = from[k * vectors..][..vectors].chunks_exact(lanes);
                for (to, from) in to.chunks_exact_mut(kept).zip(from) {
                    to.copy_from_slice(&from[..kept]);
                }
            }
        }
    }
}
