//! One step of a cell for many rows.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(
    clippy::needless_range_loop,
    reason = "rows, blocks and gates index several lists at once"
)]

use core::marker::PhantomData;
use core::ops::Range;

use tidegate_simd::{Element, Simd};

use super::pack::Packed;
use super::stored::{Full, Half, Stored};
use super::tile::{Matrix, multiply, rows_at};
use super::walk::{Rows, Tile, walk};
use crate::cell::{Cell, List};

/// What a row's input adds to its gate sums, for a step that computes it itself.
pub(crate) struct Input<'a, E> {
    /// `W_ih`, packed.
    pub(crate) w: &'a Packed<E>,
    /// The biases, `[w.width()]`.
    pub(crate) start: &'a [E],
    /// The input, `[I]`.
    pub(crate) x: &'a [E],
}

/// One step of a cell for many rows.
///
/// Rows of `h_prev` are `h_stride` long, rows of `h` and `c` are `blocks * lanes`: the padding is
/// computed like any unit, from zero weights.
pub(crate) struct Step<'a, E> {
    /// `W_hh`, packed.
    pub(crate) w: &'a Packed<E>,
    /// `b_hh` of the gates that are split, `[w.width()]`.
    pub(crate) start: &'a [E],
    /// `b + W_ih x` of each row, `[rows, w.width()]`; not read by a step that computes it itself.
    pub(crate) sums: &'a [E],
    /// The state before the step, `[rows, h_stride]`.
    pub(crate) h_prev: &'a [E],
    /// Elements from one row of `h_prev` to the next.
    pub(crate) h_stride: usize,
    /// The state after the step, `[rows, blocks * lanes]`.
    pub(crate) h: &'a mut [E],
    /// The cell state, replaced in place, `[rows, blocks * lanes]`; empty if the cell has none.
    pub(crate) c: &'a mut [E],
    /// Number of rows.
    pub(crate) rows: usize,
    /// Whether the row, which must be one then, reads the weights laid out for one.
    pub(crate) alone: bool,
    /// The blocks of units to compute; the others' states are left as they are.
    pub(crate) blocks: Range<usize>,
    /// Whether to begin with the last block.
    pub(crate) backwards: bool,
    /// Where what backward needs goes, `[rows, blocks, values, lanes]`; read by a step that keeps it.
    pub(crate) saved: *mut E,
}

impl<E: Element> Step<'_, E> {
    /// Runs the step with cell `C` of a row alone from its `input`, whose products a block's recurrent
    /// ones follow: both weights of the last blocks are near when the next step begins with them.
    #[inline(always)]
    pub(crate) fn run_from<S: Simd<E>, C: Cell>(self, s: S, input: Input<'_, E>) {
        assert!(self.alone);
        if const { E::BF16_WEIGHTS } && self.w.is_half() {
            self.run_stored::<S, C, Half, false, true>(s, Some(input));
        } else {
            self.run_stored::<S, C, Full, false, true>(s, Some(input));
        }
    }

    /// Runs the step with cell `C`, and writes what backward needs if it is to `KEEP` it.
    ///
    /// # Safety
    /// To keep it, `saved` must be writable for all rows.
    #[inline(always)]
    pub(crate) unsafe fn run_keeping<S: Simd<E>, C: Cell, const KEEP: bool>(self, s: S) {
        if const { E::BF16_WEIGHTS } && self.w.is_half() {
            self.run_stored::<S, C, Half, KEEP, false>(s, None);
        } else {
            self.run_stored::<S, C, Full, KEEP, false>(s, None);
        }
    }

    /// Runs the step with weights kept as `W` says; `WHOLE` if there is an `input`.
    #[inline(always)]
    fn run_stored<S: Simd<E>, C: Cell, W: Stored<E>, const KEEP: bool, const WHOLE: bool>(
        self,
        s: S,
        input: Option<Input<'_, E>>,
    ) {
        let w = Matrix::new::<E, S, C::Gates<S::V>, W>(self.w, self.alone);
        let (rows, width) = (self.rows, w.width::<E, S, C::Gates<S::V>>());
        let states = <C::State<S::V> as List<S::V>>::LEN;
        let units = w.blocks * S::LANES;
        assert_eq!(self.start.len(), width);
        assert!(WHOLE || self.sums.len() >= rows * width);
        assert!(self.h_stride >= w.inputs && self.h_prev.len() >= rows * self.h_stride);
        // A cell without projection reads its own units of `h_prev`, padding included.
        assert!(states > 1 || self.h_stride >= units);
        assert!(self.h.len() >= rows * units);
        assert!(self.c.len() >= (states - 1) * rows * units);
        assert!(self.blocks.end <= w.blocks);
        assert!(rows == 1 || !self.alone);
        let input = input.map(|Input { w: w_ih, start, x }| {
            let w_ih = Matrix::new::<E, S, C::Gates<S::V>, W>(w_ih, true);
            assert!(w_ih.blocks == w.blocks && start.len() == width && x.len() == w_ih.inputs);
            InputTile { w: w_ih, start: start.as_ptr(), x: x.as_ptr() }
        });
        assert_eq!(input.is_some(), WHOLE);
        let bytes = |w: Matrix<W::Item>| w.bytes::<E, S, C::Gates<S::V>>();
        let all = bytes(w) + input.as_ref().map_or(0, |input| bytes(input.w));
        let walked = Rows::new(rows, self.alone, all);
        let mut tile = StepTile::<E, S, C, W::Item, W, KEEP, WHOLE> {
            s,
            w,
            width,
            units,
            start: self.start.as_ptr(),
            sums: self.sums.as_ptr(),
            input,
            h_prev: self.h_prev.as_ptr(),
            h_stride: self.h_stride,
            h: self.h.as_mut_ptr(),
            c: self.c.as_mut_ptr(),
            saved: self.saved,
            cell: PhantomData,
        };
        // SAFETY: the lengths were just compared with the rows and blocks.
        unsafe { walk(&mut tile, walked, self.blocks, self.backwards) }
    }
}

/// [`Input`] by value.
struct InputTile<E, T> {
    w: Matrix<T>,
    start: *const E,
    x: *const E,
}

/// [`Step`] by value.
struct StepTile<E, S, C, T, W, const KEEP: bool, const WHOLE: bool> {
    s: S,
    w: Matrix<T>,
    width: usize,
    units: usize,
    start: *const E,
    sums: *const E,
    // INVARIANT: there if the step is `WHOLE`.
    input: Option<InputTile<E, T>>,
    h_prev: *const E,
    h_stride: usize,
    h: *mut E,
    c: *mut E,
    saved: *mut E,
    cell: PhantomData<(C, W)>,
}

impl<E, S, C, W, const KEEP: bool, const WHOLE: bool> StepTile<E, S, C, W::Item, W, KEEP, WHOLE>
where
    E: Element,
    S: Simd<E>,
    C: Cell,
    W: Stored<E>,
{
    /// What the input adds to the gate sums of `N` blocks of the only row, of a `WHOLE` step.
    ///
    /// # Safety
    /// The blocks must exist.
    #[inline(always)]
    unsafe fn input_sums<const N: usize, const Q: usize, const AHEAD: bool>(
        &self,
        block: usize,
    ) -> [C::Gates<S::V>; N] {
        let s = self.s;
        // SAFETY: the invariant; `Step::run_stored` checked the slices against the blocks.
        unsafe {
            let InputTile { w, start, x } = self.input.as_ref().unwrap_unchecked();
            let at = w.blocks_at::<E, S, C::Gates<S::V>, N>(block);
            let [mut sums] =
                multiply::<_, _, C::Gates<S::V>, W, 1, N, Q, AHEAD>(s, at, [*x], w.inputs);
            for n in 0..N {
                let gates = <C::Gates<S::V> as List<S::V>>::LEN;
                for (gate, sum) in sums[n].as_mut().iter_mut().enumerate() {
                    let at = ((block + n) * gates + gate) * S::LANES;
                    *sum = s.add(s.load(start.add(at)), *sum);
                }
            }
            sums
        }
    }

    /// Runs the cell on one row and block, from the products to the state; `input` are the sums of a
    /// `WHOLE` step.
    ///
    /// # Safety
    /// The row and block must exist.
    #[inline(always)]
    unsafe fn finish(
        &mut self,
        row: usize,
        block: usize,
        input: C::Gates<S::V>,
        products: C::Gates<S::V>,
    ) {
        let s = self.s;
        let gates = <C::Gates<S::V> as List<S::V>>::LEN;
        let mut x = C::Gates::<S::V>::all(s.splat(E::ZERO));
        let mut h = products;
        for gate in 0..gates {
            let at = (block * gates + gate) * S::LANES;
            // SAFETY: `Step::run_stored` checked both slices against the rows and blocks.
            unsafe {
                let sum = match WHOLE {
                    true => input.as_ref()[gate],
                    false => s.load(self.sums.add(row * self.width + at)),
                };
                x.as_mut()[gate] = sum;
                let start = if C::SPLIT[gate] { s.load(self.start.add(at)) } else { sum };
                h.as_mut()[gate] = s.add(start, products.as_ref()[gate]);
            }
        }
        let unit = block * S::LANES;
        let at = row * self.units + unit;
        let mut state = C::State::<S::V>::all(s.splat(E::ZERO));
        // SAFETY: `Step::run_stored` checked the slices that this cell's states need.
        unsafe {
            if <C::State<S::V> as List<S::V>>::LEN > 1 {
                state.as_mut()[1] = s.load(self.c.add(at));
            } else {
                state.as_mut()[0] = s.load(self.h_prev.add(row * self.h_stride + unit));
            }
            let (next, saved) = C::forward::<E, S>(s, x, h, state);
            s.store(next.as_ref()[0], self.h.add(at));
            if <C::State<S::V> as List<S::V>>::LEN > 1 {
                s.store(next.as_ref()[1], self.c.add(at));
            }
            if KEEP {
                let values = <C::Saved<S::V> as List<S::V>>::LEN;
                for value in 0..values {
                    s.store(saved.as_ref()[value], self.saved.add(at * values + value * S::LANES));
                }
            }
        }
    }
}

impl<E, S, C, W, const KEEP: bool, const WHOLE: bool> Tile
    for StepTile<E, S, C, W::Item, W, KEEP, WHOLE>
where
    E: Element,
    S: Simd<E>,
    C: Cell,
    W: Stored<E>,
{
    const GATES: usize = <C::Gates<S::V> as List<S::V>>::LEN;
    const REGISTERS: usize = S::REGISTERS;

    #[inline(always)]
    unsafe fn run<const R: usize, const N: usize, const Q: usize, const AHEAD: bool>(
        &mut self,
        row: usize,
        block: usize,
    ) {
        // SAFETY: `Step::run_stored` checked every slice against the rows and blocks.
        unsafe {
            let input = match WHOLE {
                true => self.input_sums::<N, Q, AHEAD>(block),
                false => [C::Gates::<S::V>::all(self.s.splat(E::ZERO)); N],
            };
            let w = self.w.blocks_at::<E, S, C::Gates<S::V>, N>(block);
            let h = rows_at::<E, R>(self.h_prev, self.h_stride, row);
            let products =
                multiply::<_, _, C::Gates<S::V>, W, R, N, Q, AHEAD>(self.s, w, h, self.w.inputs);
            for r in 0..R {
                for n in 0..N {
                    self.finish(row + r, block + n, input[n], products[r][n]);
                }
            }
        }
    }
}
