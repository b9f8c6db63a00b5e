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

    /// The layouts of `weights`, which must be kept this way.
    fn layouts(weights: &Weights<E>) -> &Layouts<Self::Item>;
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
    fn layouts(weights: &Weights<E>) -> &Layouts<E> {
        match weights {
            Weights::Full(layouts) => layouts,
            Weights::Half(_) => unreachable!("weights kept as bf16"),
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
    fn layouts(weights: &Weights<E>) -> &Layouts<Bf16> {
        match weights {
            Weights::Half(layouts) => layouts,
            Weights::Full(_) => unreachable!("weights kept as they are"),
        }
    }
}

/// Weights, kept one way or the other.
#[derive(Clone, Debug)]
pub(crate) enum Weights<E> {
    Full(Layouts<E>),
    Half(Layouts<Bf16>),
}

/// The items of a packed matrix, `[blocks, K, G * lanes]`, in one order or two.
#[derive(Clone, Debug)]
pub(crate) struct Layouts<T> {
    items: Buffer<T>,
    /// The same with the inputs in the order of [`Division::order`], made when first wanted.
    for_one: OnceLock<Buffer<T>>,
}

impl<T: Copy + Zeroable> Layouts<T> {
    pub(super) fn new(items: Buffer<T>) -> Self {
        Self { items, for_one: OnceLock::new() }
    }

    /// Lets `pack` write other items, for blocks of `inputs` inputs of `vectors` items each.
    pub(super) fn set(&mut self, inputs: usize, vectors: usize, pack: impl FnOnce(&mut [T])) {
        pack(&mut self.items);
        if let Some(mut copy) = self.for_one.take() {
            self.order(inputs, vectors, &mut copy);
            _ = self.for_one.set(copy);
        }
    }

    /// Number of items.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The items in the order in which a product reads them whose rows are one `alone`, or more.
    #[inline(always)]
    pub(super) fn for_rows(&self, alone: bool, inputs: usize, vectors: usize) -> &[T] {
        if alone { self.for_one.get_or_init(|| self.ordered(inputs, vectors)) } else { &self.items }
    }

    /// A copy with the inputs of each block, of `vectors` items each, in the order of
    /// [`Division::order`].
    #[cold]
    fn ordered(&self, inputs: usize, vectors: usize) -> Buffer<T> {
        let mut copy = Buffer::zeros(self.len());
        self.order(inputs, vectors, &mut copy);
        copy
    }

    /// Writes the items in that order to `copy`.
    fn order(&self, inputs: usize, vectors: usize, copy: &mut [T]) {
        let block = inputs * vectors;
        for at in (0..self.len()).step_by(block) {
            let (from, to) = (&self.items[at..][..block], &mut copy[at..][..block]);
            for (to, k) in to.chunks_exact_mut(vectors).zip(Division::of(inputs).order()) {
                to.copy_from_slice(&from[k * vectors..][..vectors]);
            }
        }
    }
}
