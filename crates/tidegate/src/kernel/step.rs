//! One step of a cell for many rows.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(
    clippy::needless_range_loop,
    reason = "rows, blocks and gates index several lists at once"
)]

use core::marker::PhantomData;
use core::ops::Range;

use tidegate_simd::{Element, Several, Simd};

use super::ahead::{Share, Weights};
use super::pack::Packed;
use super::stored::{Full, Half, Stored};
use super::tile::{Matrix, multiply, rows_at};
use super::walk::{PairTile, Rows, Tile, walk};
use crate::cell::{Cell, List};

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
    /// Runs the step with cell `C`, and writes what backward needs if it is to `KEEP` it.
    ///
    /// # Safety
    /// To keep it, `saved` must be writable for all rows.
    #[inline(always)]
    pub(crate) unsafe fn run_keeping<S: Simd<E>, C: Cell, const KEEP: bool>(self, s: S) {
        if const { E::BF16_WEIGHTS } && self.w.is_half() {
            self.run_stored::<S, C, Half, KEEP>(s);
        } else {
            self.run_stored::<S, C, Full, KEEP>(s);
        }
    }

    /// Runs the step with weights kept as `W` says.
    #[inline(always)]
    fn run_stored<S: Simd<E>, C: Cell, W: Stored<E>, const KEEP: bool>(self, s: S) {
        let w = Matrix::new::<E, S, C::Gates<S::V>, W>(self.w, self.alone);
        let (rows, width) = (self.rows, w.width::<E, S, C::Gates<S::V>>());
        let states = <C::State<S::V> as List<S::V>>::LEN;
        let units = w.blocks * S::BLOCK;
        assert_eq!(self.start.len(), width);
        assert!(self.sums.len() >= rows * width);
        assert!(self.h_stride >= w.inputs && self.h_prev.len() >= rows * self.h_stride);
        // A cell without projection reads its own units of `h_prev`, padding included.
        assert!(states > 1 || self.h_stride >= units);
        assert!(self.h.len() >= rows * units);
        assert!(self.c.len() >= (states - 1) * rows * units);
        assert!(self.blocks.end <= w.blocks);
        let walked = Rows::new(rows, self.alone, w.bytes::<E, S, C::Gates<S::V>>());
        let mut tile = StepTile::<E, S, C, W::Item, W, KEEP, false> {
            s,
            w,
            width,
            units,
            start: self.start.as_ptr(),
            sums: self.sums.as_ptr(),
            input: InputTile { w, start: core::ptr::null(), x: core::ptr::null() },
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

/// What the input of the only row adds to its gate sums.
#[derive(Copy, Clone)]
pub(super) struct InputTile<E, T> {
    /// `W_ih`.
    pub(super) w: Matrix<T>,
    /// The biases, `[w.width()]`.
    pub(super) start: *const E,
    /// The input, `[I]`.
    pub(super) x: *const E,
}

/// [`Step`] by value, or of a row alone whose `WHOLE` step begins with its input's products.
pub(super) struct StepTile<E, S, C, T, W, const KEEP: bool, const WHOLE: bool> {
    pub(super) s: S,
    pub(super) w: Matrix<T>,
    pub(super) width: usize,
    pub(super) units: usize,
    pub(super) start: *const E,
    pub(super) sums: *const E,
    /// Not used unless the step is `WHOLE`.
    pub(super) input: InputTile<E, T>,
    pub(super) h_prev: *const E,
    pub(super) h_stride: usize,
    pub(super) h: *mut E,
    pub(super) c: *mut E,
    pub(super) saved: *mut E,
    pub(super) cell: PhantomData<(C, W)>,
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
        // SAFETY: whoever made the tile checked everything against the blocks.
        unsafe {
            let InputTile { w, start, x } = self.input;
            let at = w.blocks_at::<E, S, C::Gates<S::V>, N>(block);
            let division = w.division::<Q>();
            let share = Share::UNUSED;
            let [mut sums] =
                multiply::<_, _, C::Gates<S::V>, W, 1, N, Q, AHEAD>(s, at, [x], division, share);
            for n in 0..N {
                let gates = <C::Gates<S::V> as List<S::V>>::LEN;
                for (gate, sum) in sums[n].as_mut().iter_mut().enumerate() {
                    let at = ((block + n) * gates + gate) * S::BLOCK;
                    *sum = s.add(s.load(start.add(at)), *sum);
                }
            }
            sums
        }
    }

    /// What the input of a `WHOLE` step adds to the gate sums of `N` blocks, and the products of `R` rows of the state,
    /// with `Q` chains side by side, asking for the `share` meanwhile.
    ///
    /// # Safety
    /// The rows and blocks must exist.
    #[inline(always)]
    #[allow(clippy::type_complexity, reason = "two lists by block, one of them by row too")]
    unsafe fn gate_sums<const R: usize, const N: usize, const Q: usize, const AHEAD: bool>(
        &self,
        row: usize,
        block: usize,
        share: Share,
    ) -> ([C::Gates<S::V>; N], [[C::Gates<S::V>; N]; R]) {
        // SAFETY: whoever made the tile checked everything against the rows and blocks.
        unsafe {
            let input = match WHOLE {
                true => self.input_sums::<N, Q, AHEAD>(block),
                false => [C::Gates::<S::V>::all(self.s.splat(E::ZERO)); N],
            };
            let w = self.w.blocks_at::<E, S, C::Gates<S::V>, N>(block);
            let h = rows_at::<E, R>(self.h_prev, self.h_stride, row);
            let division = self.w.division::<Q>();
            let products =
                multiply::<_, _, C::Gates<S::V>, W, R, N, Q, AHEAD>(self.s, w, h, division, share);
            (input, products)
        }
    }

    /// The only row and `block` with its sums.
    ///
    /// # Safety
    /// The block must exist.
    #[inline(always)]
    unsafe fn place<const Q: usize>(&self, block: usize) -> PlaceOf<C, S::V> {
        // SAFETY: the caller's.
        let ([input], [[products]]) =
            unsafe { self.gate_sums::<1, 1, Q, false>(0, block, Share::UNUSED) };
        Place { row: 0, block, input, products }
    }

    /// Runs the cell at `N` places, one beside the other, from the products to the state.
    ///
    /// # Safety
    /// The rows and blocks must exist.
    #[inline(always)]
    unsafe fn finish<const N: usize>(&mut self, places: [PlaceOf<C, S::V>; N]) {
        let (s, several) = (self.s, Several::<S, N>::new(self.s));
        let gates = <C::Gates<S::V> as List<S::V>>::LEN;
        let states = <C::State<S::V> as List<S::V>>::LEN;
        let zero = several.splat(E::ZERO);
        let mut x = C::Gates::<[S::V; N]>::all(zero);
        let mut h = C::Gates::<[S::V; N]>::all(zero);
        let mut state = C::State::<[S::V; N]>::all(zero);
        // SAFETY: whoever made the tile checked the slices that this cell needs against the rows and blocks.
        unsafe {
            for n in 0..N {
                let Place { row, block, input, products } = places[n];
                for gate in 0..gates {
                    let at = (block * gates + gate) * S::BLOCK;
                    let sum = match WHOLE {
                        true => input.as_ref()[gate],
                        false => s.load(self.sums.add(row * self.width + at)),
                    };
                    x.as_mut()[gate][n] = sum;
                    let start = if C::SPLIT[gate] { s.load(self.start.add(at)) } else { sum };
                    h.as_mut()[gate][n] = s.add(start, products.as_ref()[gate]);
                }
                let unit = block * S::BLOCK;
                if states > 1 {
                    state.as_mut()[1][n] = s.load(self.c.add(row * self.units + unit));
                } else {
                    let at = row * self.h_stride + unit;
                    state.as_mut()[0][n] = s.load(self.h_prev.add(at));
                }
            }
            let (next, saved) = C::forward::<E, Several<S, N>>(several, x, h, state);
            for n in 0..N {
                let at = places[n].row * self.units + places[n].block * S::BLOCK;
                s.store(next.as_ref()[0][n], self.h.add(at));
                if states > 1 {
                    s.store(next.as_ref()[1][n], self.c.add(at));
                }
                if KEEP {
                    let values = <C::Saved<S::V> as List<S::V>>::LEN;
                    for value in 0..values {
                        let to = self.saved.add(at * values + value * S::BLOCK);
                        s.store(saved.as_ref()[value][n], to);
                    }
                }
            }
        }
    }
}

/// A row and a block of units with the sums of its gates.
#[derive(Copy, Clone)]
struct Place<G> {
    row: usize,
    block: usize,
    /// What the input of a `WHOLE` step adds.
    input: G,
    /// Those of the state.
    products: G,
}

/// Of cell `C`, in vectors `V`.
type PlaceOf<C, V> = Place<<C as Cell>::Gates<V>>;

impl<G> Place<G> {
    /// The same with vectors that are zero beyond the lower lanes.
    #[inline(always)]
    fn raised<E: Element, S: Simd<E>, L: List<S::V>>(self, s: S) -> Place<L>
    where
        G: List<<S::Low as Simd<E>>::V>,
    {
        let Self { row, block, input, products } = self;
        let zero = L::all(s.splat(E::ZERO));
        let mut raised = Place { row, block, input: zero, products: zero };
        for gate in 0..L::LEN {
            raised.input.as_mut()[gate] = s.raise(input.as_ref()[gate]);
            raised.products.as_mut()[gate] = s.raise(products.as_ref()[gate]);
        }
        raised
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
    type Low = StepTile<E, S::Low, C, W::Item, W, KEEP, WHOLE>;
    const LOW: bool = S::Low::LANES < S::LANES;
    const LOW_OF_MANY: bool = false;

    #[inline(always)]
    fn weights(&self, block: usize) -> Weights {
        self.w.weights::<S, E, C::Gates<S::V>>(block)
    }

    #[inline(always)]
    fn is_low(&self, block: usize) -> bool {
        self.w.is_low::<E, S>(block)
    }

    #[inline(always)]
    fn low(&self) -> Self::Low {
        let Self { w, width, units, start, sums, input, .. } = *self;
        let Self { h_prev, h_stride, h, c, saved, cell, .. } = *self;
        let s = self.s.low();
        StepTile { s, w, width, units, start, sums, input, h_prev, h_stride, h, c, saved, cell }
    }

    #[inline(always)]
    unsafe fn run<const R: usize, const N: usize, const Q: usize, const AHEAD: bool>(
        &mut self,
        row: usize,
        block: usize,
        share: Share,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let (input, products) = self.gate_sums::<R, N, Q, AHEAD>(row, block, share);
            for r in 0..R {
                for n in 0..N {
                    let (row, block) = (row + r, block + n);
                    let (input, products) = (input[n], products[r][n]);
                    self.finish([Place { row, block, input, products }]);
                }
            }
        }
    }
}

impl<E, S, C, W, const KEEP: bool, const WHOLE: bool> PairTile
    for StepTile<E, S, C, W::Item, W, KEEP, WHOLE>
where
    E: Element,
    S: Simd<E>,
    C: Cell,
    W: Stored<E>,
{
    const PAIRS: bool = Self::GATES > 1 && S::REGISTERS > 16;

    #[inline(always)]
    unsafe fn run_pair<const Q: usize>(&mut self, block: usize) {
        // SAFETY: the caller's.
        unsafe {
            let first = self.place::<Q>(block);
            let second = match Self::LOW && self.is_low(block + 1) {
                true => self.low().place::<Q>(block + 1).raised::<E, S, _>(self.s),
                false => self.place::<Q>(block + 1),
            };
            self.finish([first, second]);
        }
    }
}
