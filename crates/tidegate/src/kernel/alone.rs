//! Steps of a cell for a row alone, one after the other.
//!
//! Small cells take less time than a call, and a processor looks ahead by some hundred instructions: what stands
//! between two steps keeps it from beginning the products of the next while it waits for the activations of the last.
//! So all that can be checked and computed beforehand is.
#![allow(unsafe_code, reason = "bounds are checked once per layer, not once per multiply-add")]

use core::marker::PhantomData;

use tidegate_simd::{Kernel, Level, Routine, Simd};

use super::ahead::row_asks;
use super::cells::Cells;
use super::matrix::{AnyMatrix, Form, Matrix};
use super::step_tile::{HOISTED, InputTile, NEXT, StepTile, WHOLE};
use super::stored::{Full, Half, Stored};
use super::walk::{walk, walk_pairs};
use crate::Element;
use crate::carry::Carry;
use crate::cell::{Cell, List};
use crate::weights::Direction;

/// Multiply-adds of vectors for a block up to which blocks are taken in pairs. While a processor waits for the activations
/// of a block it looks ahead to the products of the next, but not to its activations, unless these are one beside the
/// other; where the products take longer than the activations, the next block's are enough to do meanwhile. In pairs 20
/// units of a GRU (120) took 0.84 of the time and of an LSTM (160) 0.92, 32 of an LSTM (256) 1.03 (Zen 4); with the second block in
/// half vectors, 0.95 to 1.0 of that.
const PAIR_VECTORS: usize = 160;

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
    /// Vectors of each in a block.
    vectors: [usize; 2],
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
        /// The first step's sums, `[w.width()]`, in whose place the other steps' go.
        sums: *mut E,
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

impl<E: Element> Ready<E> {
    /// The weights of `direction`, which has no projection.
    pub(crate) fn new(direction: &Direction<E>) -> Self {
        let Direction { w_ih, w_hh, bias, bias_hh, w_hr, .. } = direction;
        assert!(w_hr.is_none() && w_ih.is_half() == w_hh.is_half());
        assert!(w_ih.blocks == w_hh.blocks && w_hh.blocks * w_hh.lanes >= w_hh.inputs);
        assert!([w_ih, w_hh].iter().all(|w| w.holds(&(0..w.blocks))));
        assert!(bias.len() == w_ih.width() && bias_hh.len() == w_hh.width());
        let half = w_hh.is_half();
        let bytes = [w_ih.bytes(), w_hh.bytes()];
        let vectors = [w_ih, w_hh].map(|w| w.gates * w.inputs);
        let [(w_ih, form), (w_hh, other)] = [w_ih, w_hh].map(|w| match half {
            false => AnyMatrix::new::<E, Full>(w, true),
            true => AnyMatrix::new::<E, Half>(w, true),
        });
        assert!(form == other);
        Self {
            w_ih,
            w_hh,
            form,
            bytes,
            vectors,
            bias: bias.as_ptr(),
            bias_hh: bias_hh.as_ptr(),
            half,
        }
    }

    /// Number of inputs.
    #[inline]
    pub(crate) fn inputs(&self) -> usize {
        self.w_ih.inputs()
    }

    /// Number of units.
    #[inline]
    pub(crate) fn units(&self) -> usize {
        self.w_hh.inputs()
    }

    /// Whether blocks are taken in pairs by steps that compute the products of an input too, if `whole`.
    pub(crate) fn in_pairs(&self, whole: bool) -> bool {
        let vectors = self.vectors[1] + if whole { self.vectors[0] } else { 0 };
        self.w_hh.blocks() > 1 && vectors <= PAIR_VECTORS && !self.half
    }

    /// Whether the weights are kept as bf16.
    pub(crate) fn is_half(&self) -> bool {
        self.half
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
        let whole = matches!(steps.source, Source::Inputs { .. });
        match (const { E::BF16_WEIGHTS } && self.half, whole) {
            (false, false) => self.run_kernel::<C, Full, HOISTED>(level, steps, carry),
            (false, true) => self.run_kernel::<C, Full, NEXT>(level, steps, carry),
            (true, false) => self.run_kernel::<C, Half, HOISTED>(level, steps, carry),
            (true, true) => self.run_kernel::<C, Half, NEXT>(level, steps, carry),
        }
    }

    /// [`run`](Self::run) with weights kept as `W` says, from sums or inputs as `INPUT` says, [`HOISTED`] or [`NEXT`].
    fn run_kernel<C: Cell, W: Stored<E>, const INPUT: u8>(
        &self,
        level: Level,
        steps: &Alone<E>,
        carry: &mut Carry<E>,
    ) {
        let cell = PhantomData::<(C, W)>;
        E::run(level, Run::<_, C, W, INPUT> { ready: self, steps, carry, cell });
    }

    /// The tile of a step from the states in `carry`, with weights kept as `W` says, but for what the input adds.
    #[inline(always)]
    fn tile<S: Simd<E>, C: Cell, W: Stored<E>, const INPUT: u8>(
        &self,
        s: S,
        carry: &mut Carry<E>,
    ) -> StepTile<E, S, C, W::Item, W, false, INPUT> {
        let gates = <C::Gates<S::V> as List<S::V>>::LEN;
        assert!(self.form == Form::new(gates, S::BLOCK, size_of::<W::Item>()));
        let w: Matrix<W::Item> = self.w_hh.of();
        let states = <C::State<S::V> as List<S::V>>::LEN;
        let (width, units) = (w.width::<E, S, C::Gates<S::V>>(), w.blocks * S::BLOCK);
        let (h, next, c) = carry.parts();
        assert!(h.len() >= units && next.len() >= units && c.len() >= (states - 1) * units);
        let cells = Cells {
            sums: core::ptr::null(),
            width,
            // Read and written by turns, so both come from a pointer that may write.
            h_prev: h.as_mut_ptr(),
            h_stride: units,
            h: next.as_mut_ptr(),
            c: c.as_mut_ptr(),
            units,
            saved: core::ptr::null_mut(),
        };
        let next = core::ptr::null_mut();
        let input = InputTile { w: self.w_ih.of(), start: self.bias, x: core::ptr::null(), next };
        StepTile { s, w, start: self.bias_hh, input, cells, cell: PhantomData }
    }

    /// Runs steps with weights kept as `W` says, from sums or inputs as `INPUT` says; blocks in `PAIRS` if
    /// [`in_pairs`](Self::in_pairs).
    ///
    /// # Safety
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn run_stored<S, C, W, const INPUT: u8, const PAIRS: bool>(
        &self,
        s: S,
        &Alone { ref source, output, steps, mut backwards }: &Alone<E>,
        carry: &mut Carry<E>,
    ) where
        S: Simd<E>,
        C: Cell,
        W: Stored<E>,
    {
        let mut tile = self.tile::<S, C, W, INPUT>(s, carry);
        assert!(output.len <= tile.cells.units);
        let bytes = self.bytes[1] + if INPUT == NEXT { self.bytes[0] } else { 0 };
        let x_stride = match *source {
            Source::Sums(sums) => {
                tile.cells.sums = sums;
                0
            }
            Source::Inputs { first, stride, sums } => {
                (tile.cells.sums, tile.input.next) = (sums, sums);
                tile.input.x = first;
                stride
            }
        };
        let (ahead, mut to) = (row_asks(bytes), output.first);
        let (mut h_prev, blocks) = (tile.cells.h_prev.cast_mut(), tile.w.blocks);
        for left in (0..steps).rev() {
            // After the last step comes none: it takes its own input again, to no end.
            if INPUT == NEXT && left > 0 {
                tile.input.x = tile.input.x.wrapping_offset(x_stride);
            }
            // SAFETY: the invariant, and the states were compared with the blocks; the caller vouches for the rest.
            unsafe {
                match PAIRS {
                    true => walk_pairs(&tile, 0..blocks, backwards),
                    false => walk(&tile, ahead, 0..blocks, backwards),
                }
                copy(s, tile.cells.h, to, output.len);
            }
            to = to.wrapping_offset(output.stride);
            (h_prev, tile.cells.h) = (tile.cells.h, h_prev);
            tile.cells.h_prev = h_prev;
            if INPUT == HOISTED {
                tile.cells.sums = tile.cells.sums.wrapping_add(tile.cells.width);
            }
            backwards = !backwards;
        }
        if steps % 2 == 1 {
            carry.turn();
        }
    }
}

/// [`Ready::run`], compiled for one cell, one kind of weights and of input, and one instruction set.
struct Run<'a, E, C, W, const INPUT: u8> {
    // INVARIANT: as `Ready::run` wants it.
    ready: &'a Ready<E>,
    steps: &'a Alone<E>,
    carry: &'a mut Carry<E>,
    cell: PhantomData<(C, W)>,
}

impl<E: Element, C: Cell, W: Stored<E>, const INPUT: u8> Kernel<E> for Run<'_, E, C, W, INPUT> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { ready, steps, carry, .. } = self;
        // Of bf16 there are no pairs.
        let pairs =
            const { size_of::<W::Item>() == size_of::<E>() } && ready.in_pairs(INPUT == NEXT);
        // SAFETY: the invariant.
        unsafe {
            match pairs {
                true => ready.run_stored::<S, C, W, INPUT, true>(s, steps, carry),
                false => ready.run_stored::<S, C, W, INPUT, false>(s, steps, carry),
            }
        }
    }
}

/// One step of cell `C` from the input `x: [I]` and the state in a carry, with weights kept as `W` says; blocks in `PAIRS` if
/// [`Ready::in_pairs`].
///
/// Small cells take less time than a call, so this is called without asking for anything that can be known before.
pub(crate) struct SingleStep<C, W, const PAIRS: bool>(PhantomData<(C, W)>);

impl<E, C, W, const PAIRS: bool> Routine<E> for SingleStep<C, W, PAIRS>
where
    E: Element,
    C: Cell,
    W: Stored<E>,
{
    type Of = Ready<E>;
    type State = Carry<E>;

    #[inline(always)]
    unsafe fn run<S: Simd<E>>(s: S, ready: &Ready<E>, carry: &mut Carry<E>, x: *const E) {
        // A step begins with the weights that the one before it read last.
        let backwards = carry.turned();
        let mut tile = ready.tile::<S, C, W, WHOLE>(s, carry);
        tile.input.x = x;
        let (ahead, blocks) = (row_asks(ready.bytes()), 0..tile.w.blocks);
        // SAFETY: the invariant, and the states were compared with the blocks; the caller vouches for the input.
        unsafe {
            match PAIRS {
                true => walk_pairs(&tile, blocks, backwards),
                false => walk(&tile, ahead, blocks, backwards),
            }
        }
        carry.turn();
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
