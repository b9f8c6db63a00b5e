//! Steps of a cell for a row alone, one after the other.
//!
//! Small cells take less time than a call, and a processor looks ahead by some hundred instructions: what stands
//! between two steps keeps it from beginning the products of the next while it waits for the activations of the last.
//! So all that can be checked and computed beforehand is.
#![allow(unsafe_code, reason = "bounds are checked once per layer, not once per multiply-add")]

use core::marker::PhantomData;

use tidegate_simd::{Kernel, Level, Simd};

use super::step::{InputTile, StepTile};
use super::stored::{Full, Half, Stored};
use super::tile::{AnyMatrix, Form, Matrix};
use super::walk::{Rows, walk};
use crate::Element;
use crate::carry::Carry;
use crate::cell::{Cell, List};
use crate::weights::Direction;

/// The weights of a layer without projection, checked and ready for steps of a row alone.
#[derive(Clone, Debug)]
pub(crate) struct Ready<E> {
    // INVARIANT: what these point to is as large as their fields say, as long as the direction that it was made of is
    // there and its parameters are not replaced. Both matrices have the same blocks.
    w_ih: AnyMatrix,
    w_hh: AnyMatrix,
    /// Of both.
    form: Form,
    /// Bytes of each.
    bytes: [usize; 2],
    /// The biases, `[w.width()]`.
    bias: *const E,
    /// `b_hh` of the gates that are split, `[w.width()]`.
    bias_hh: *const E,
    /// Whether the weights are kept as bf16.
    half: bool,
}

// SAFETY: what it points to is only read.
unsafe impl<E: Sync> Send for Ready<E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Ready<E> {}

/// Steps to run.
pub(crate) struct Alone<E> {
    /// What the input adds to the gate sums.
    pub(crate) source: Source<E>,
    /// Where `h` goes after every step.
    pub(crate) output: Places<E>,
    /// Number of steps.
    pub(crate) steps: usize,
    /// Whether the first step begins with the last block; the others take turns.
    pub(crate) backwards: bool,
}

/// What the input of every step adds to the gate sums.
pub(crate) enum Source<E> {
    /// The sums themselves, `b + W_ih x`, `[steps, w.width()]`.
    Sums(*const E),
    /// The inputs, whose products are computed step by step.
    Inputs {
        /// The first step's, `[I]`.
        first: *const E,
        /// Elements from one step's to the next.
        stride: isize,
    },
}

/// A place for every step.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Places<E> {
    /// The first step's.
    pub(crate) first: *mut E,
    /// Elements from one step's to the next.
    pub(crate) stride: isize,
    /// Elements of each, at most the hidden units.
    pub(crate) len: usize,
}

impl<E: Element> Alone<E> {
    /// One step from the input `x: [I]`; `h` goes to `output: [H]` beside the carry, or nowhere if that is empty.
    #[inline(always)]
    pub(crate) fn step(ready: &Ready<E>, x: &[E], output: &mut [E], backwards: bool) -> Self {
        assert!(x.len() == ready.w_ih.inputs());
        let output = Places { first: output.as_mut_ptr(), stride: 0, len: output.len() };
        let source = Source::Inputs { first: x.as_ptr(), stride: 0 };
        Self { source, output, steps: 1, backwards }
    }
}

impl<E: Element> Ready<E> {
    /// The weights of `direction`, which has no projection.
    pub(crate) fn new(direction: &Direction<E>) -> Self {
        let Direction { w_ih, w_hh, bias, bias_hh, w_hr, .. } = direction;
        assert!(w_hr.is_none() && w_ih.is_half() == w_hh.is_half());
        assert!(w_ih.blocks == w_hh.blocks && w_hh.blocks * w_hh.lanes >= w_hh.inputs);
        assert!(bias.len() == w_ih.width() && bias_hh.len() == w_hh.width());
        let half = w_hh.is_half();
        let bytes = [w_ih.bytes(), w_hh.bytes()];
        let [(w_ih, form), (w_hh, other)] = [w_ih, w_hh].map(|w| match half {
            false => AnyMatrix::new::<E, Full>(w, true),
            true => AnyMatrix::new::<E, Half>(w, true),
        });
        assert!(form == other);
        Self { w_ih, w_hh, form, bytes, bias: bias.as_ptr(), bias_hh: bias_hh.as_ptr(), half }
    }

    /// Bytes of both matrices.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes[0] + self.bytes[1]
    }

    /// Runs `steps` of cell `C` at `level` from the state in `carry`, and leaves the last one's there.
    ///
    /// # Safety
    /// The direction must be there as it was; every step's input must be readable and its output writable.
    pub(crate) unsafe fn run<C: Cell>(&self, level: Level, steps: &Alone<E>, carry: &mut Carry<E>) {
        E::run(level, Run { ready: self, steps, carry, cell: PhantomData::<C> });
    }

    /// Runs steps with weights kept as `W` says, from the inputs if they are `WHOLE`. There is but one if it is to run
    /// `ONCE`: what a loop computes before its first turn takes a fifth of a small step.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn run_stored<S: Simd<E>, C: Cell, W: Stored<E>, const WHOLE: bool, const ONCE: bool>(
        &self,
        s: S,
        &Alone { ref source, output, steps, mut backwards }: &Alone<E>,
        carry: &mut Carry<E>,
    ) {
        let gates = <C::Gates<S::V> as List<S::V>>::LEN;
        assert!(self.form == Form::new(gates, S::BLOCK, size_of::<W::Item>()));
        let w: Matrix<W::Item> = self.w_hh.of();
        let states = <C::State<S::V> as List<S::V>>::LEN;
        let (width, units) = (w.width::<E, S, C::Gates<S::V>>(), w.blocks * S::BLOCK);
        let (h, next, c) = carry.parts();
        assert!(h.len() >= units && next.len() >= units && c.len() >= (states - 1) * units);
        assert!(output.len <= units);
        let bytes = self.bytes[1] + if WHOLE { self.bytes[0] } else { 0 };
        let (sums, x, x_stride) = match *source {
            Source::Sums(sums) => (sums, core::ptr::null(), 0),
            Source::Inputs { first, stride } => (core::ptr::null(), first, stride),
        };
        // Once: what another borrow of the same buffer began with could not be used any more.
        let mut h_prev = h.as_mut_ptr();
        let mut tile = StepTile::<E, S, C, W::Item, W, false, WHOLE> {
            s,
            w,
            width,
            units,
            start: self.bias_hh,
            sums,
            input: InputTile { w: self.w_ih.of(), start: self.bias, x },
            h_prev,
            h_stride: units,
            h: next.as_mut_ptr(),
            c: c.as_mut_ptr(),
            saved: core::ptr::null_mut(),
            cell: PhantomData,
        };
        let (walked, mut to) = (Rows::new(1, true, bytes), output.first);
        let steps = if ONCE { 1 } else { steps };
        for _ in 0..steps {
            // SAFETY: the invariant, and the states were just compared with the blocks; the caller vouches for the
            // rest.
            unsafe {
                walk(&mut tile, walked, 0..w.blocks, backwards);
                copy(s, tile.h, to, output.len);
            }
            to = to.wrapping_offset(output.stride);
            (h_prev, tile.h) = (tile.h, h_prev);
            tile.h_prev = h_prev;
            tile.input.x = tile.input.x.wrapping_offset(x_stride);
            tile.sums = tile.sums.wrapping_add(width);
            backwards = !backwards;
        }
        if steps % 2 == 1 {
            carry.turn();
        }
    }
}

/// [`Ready::run`], compiled for one cell and one instruction set.
struct Run<'a, E, C> {
    // INVARIANT: as `Ready::run` wants it.
    ready: &'a Ready<E>,
    steps: &'a Alone<E>,
    carry: &'a mut Carry<E>,
    cell: PhantomData<C>,
}

impl<E: Element, C: Cell> Kernel<E> for Run<'_, E, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { ready, steps, carry, .. } = self;
        // SAFETY: the invariant.
        unsafe {
            match (const { E::BF16_WEIGHTS } && ready.half, &steps.source, steps.steps) {
                (false, Source::Inputs { .. }, 1) => {
                    ready.run_stored::<S, C, Full, true, true>(s, steps, carry);
                }
                (false, Source::Inputs { .. }, _) => {
                    ready.run_stored::<S, C, Full, true, false>(s, steps, carry);
                }
                (false, Source::Sums(_), _) => {
                    ready.run_stored::<S, C, Full, false, false>(s, steps, carry);
                }
                (true, Source::Inputs { .. }, _) => {
                    ready.run_stored::<S, C, Half, true, false>(s, steps, carry);
                }
                (true, Source::Sums(_), _) => {
                    ready.run_stored::<S, C, Half, false, false>(s, steps, carry);
                }
            }
        }
    }
}

/// Copies `len` elements, vector by vector.
///
/// # Safety
/// As many must be writable and whole vectors of them readable, and they must not overlap.
#[inline(always)]
unsafe fn copy<E: Element, S: Simd<E>>(s: S, from: *const E, to: *mut E, len: usize) {
    let mut at = 0;
    // SAFETY: the caller's.
    unsafe {
        while at + S::LANES <= len {
            s.store(s.load(from.add(at)), to.add(at));
            at += S::LANES;
        }
        if at < len {
            s.store_first(s.load(from.add(at)), len - at, to.add(at));
        }
    }
}
