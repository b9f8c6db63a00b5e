//! The two kernels: sums of many rows at once, and one step of a cell for many rows.
//!
//! Both walk tiles of `R` rows by `N` blocks of units whose accumulators stay in registers. Every
//! output is one chain of fused multiply-adds in the order of `k`, whatever the tile, so the
//! shape of the tiles changes no bit.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(
    clippy::needless_range_loop,
    reason = "rows, blocks and gates index several lists at once"
)]

use tidegate_simd::{Element, Simd};

use super::pack::Packed;
use crate::cell::{Cell, List};

/// The work on one tile of `R` rows and `N` blocks.
trait Tile {
    /// Number of accumulators of one row and block.
    const GATES: usize;
    /// Number of vector registers.
    const REGISTERS: usize;

    /// Does the work on the tile that begins at `row` and `block`.
    ///
    /// # Safety
    /// Rows `row..row + R` and blocks `block..block + N` must exist.
    unsafe fn run<const R: usize, const N: usize>(&mut self, row: usize, block: usize);
}

/// Runs `tile` over all `rows` and `blocks`; `backwards` takes the last blocks first.
///
/// Weights that have just been read are still in the cache when the next step begins with them.
///
/// # Safety
/// `tile` must accept every row below `rows` and every block below `blocks`.
#[inline(always)]
unsafe fn walk<T: Tile>(tile: &mut T, rows: usize, blocks: usize, backwards: bool) {
    let wide = T::REGISTERS > 16;
    // Blocks side by side: enough independent chains to hide the latency of a multiply-add.
    let side = match (T::GATES, rows) {
        (4, 1) => {
            if wide {
                4
            } else {
                2
            }
        }
        (3, 1) => 4,
        (_, 1) => 8,
        (4, _) => 1,
        (3, _) => {
            if wide {
                2
            } else {
                1
            }
        }
        (_, _) => 4,
    };
    let groups = blocks / side;
    for index in 0..groups + (blocks - groups * side) {
        let index = if backwards { groups + (blocks - groups * side) - 1 - index } else { index };
        // SAFETY: groups cover the first `groups * side` blocks, single blocks the others.
        unsafe {
            if index >= groups {
                column::<T, 1>(tile, rows, groups * side + (index - groups));
                continue;
            }
            match side {
                2 => column::<T, 2>(tile, rows, index * 2),
                4 => column::<T, 4>(tile, rows, index * 4),
                8 => tile.run::<1, 8>(0, index * 8),
                _ => column::<T, 1>(tile, rows, index),
            }
        }
    }
}

/// Runs `tile` over all `rows` of `N` blocks.
///
/// # Safety
/// As [`walk`], for `block..block + N`.
#[inline(always)]
unsafe fn column<T: Tile, const N: usize>(tile: &mut T, rows: usize, block: usize) {
    // Rows at a time, as accumulators fit: 24 of 32 registers or 12 of 16.
    let most = match (T::REGISTERS > 16, T::GATES * N) {
        (true, 8..) => 3,
        (true, 6..) => 4,
        (false, 6..) => 2,
        (true, _) => 6,
        (false, _) => 3,
    };
    let mut row = 0;
    while row < rows {
        // Rows left over are spread over the tiles: 7 rows are 4 and 3, not 6 and 1.
        let left = rows - row;
        let take = left.div_ceil(left.div_ceil(most));
        // SAFETY: `take <= left`, so the rows exist; the caller vouches for the blocks.
        unsafe {
            match take {
                1 => tile.run::<1, N>(row, block),
                2 => tile.run::<2, N>(row, block),
                3 => tile.run::<3, N>(row, block),
                4 => tile.run::<4, N>(row, block),
                5 => tile.run::<5, N>(row, block),
                _ => tile.run::<6, N>(row, block),
            }
        }
        row += take;
    }
}

/// `acc[row][block][gate] += w[block][k][gate] * x[row][k]` for `k` in order.
///
/// # Safety
/// `w[n]` must be readable for `inputs * G * LANES` elements, `x[r]` for `inputs`.
#[inline(always)]
unsafe fn multiply<E, S, L, const R: usize, const N: usize>(
    s: S,
    w: [*const E; N],
    x: [*const E; R],
    inputs: usize,
    acc: &mut [[L; N]; R],
) where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
{
    for k in 0..inputs {
        for n in 0..N {
            for gate in 0..L::LEN {
                // SAFETY: `k < inputs`; the caller vouches for the rest.
                let w = unsafe { s.load(w[n].add((k * L::LEN + gate) * S::LANES)) };
                for r in 0..R {
                    // SAFETY: as above.
                    let x = s.splat(unsafe { *x[r].add(k) });
                    let sum = &mut acc[r][n].as_mut()[gate];
                    *sum = s.mul_add(x, w, *sum);
                }
            }
        }
    }
}

/// Sums of many rows: `out[row] = start + W x[row]`.
pub(crate) struct Sums<'a, E> {
    /// The matrix, packed.
    pub(crate) w: &'a Packed<E>,
    /// What each sum starts from, `[w.width()]`.
    pub(crate) start: &'a [E],
    /// The rows, `[rows, x_stride]`, of which the first `K` elements of each are read.
    pub(crate) x: &'a [E],
    /// Elements from one row of `x` to the next.
    pub(crate) x_stride: usize,
    /// The sums, `[rows, w.width()]`.
    pub(crate) out: &'a mut [E],
    /// Number of rows.
    pub(crate) rows: usize,
}

impl<E: Element> Sums<'_, E> {
    /// Computes the sums, with `L` the list of the matrix's gates.
    #[inline(always)]
    pub(crate) fn run<S: Simd<E>, L: List<S::V>>(self, s: S) {
        let w = self.w;
        assert_eq!((w.gates, w.lanes), (L::LEN, S::LANES));
        assert_eq!(w.data.len(), w.blocks * w.block_len());
        assert_eq!(self.start.len(), w.width());
        assert!(self.rows == 0 || self.x.len() >= (self.rows - 1) * self.x_stride + w.inputs);
        assert!(self.out.len() >= self.rows * w.width());
        let (rows, blocks) = (self.rows, w.blocks);
        let mut tile = SumsTile { s, sums: self, list: core::marker::PhantomData::<L> };
        // SAFETY: the lengths were just compared with the rows and blocks.
        unsafe { walk(&mut tile, rows, blocks, false) }
    }
}

struct SumsTile<'a, E, S, L> {
    s: S,
    sums: Sums<'a, E>,
    list: core::marker::PhantomData<L>,
}

impl<E: Element, S: Simd<E>, L: List<S::V>> Tile for SumsTile<'_, E, S, L> {
    const GATES: usize = L::LEN;
    const REGISTERS: usize = S::REGISTERS;

    #[inline(always)]
    unsafe fn run<const R: usize, const N: usize>(&mut self, row: usize, block: usize) {
        let (s, p) = (self.s, &mut self.sums);
        let vectors = L::LEN * S::LANES;
        let mut acc = [[L::all(s.splat(E::ZERO)); N]; R];
        // SAFETY: `Sums::run` checked every slice against the rows and blocks.
        unsafe {
            let mut w = [p.w.data.as_ptr(); N];
            for n in 0..N {
                w[n] = w[n].add((block + n) * p.w.block_len());
                for gate in 0..L::LEN {
                    let start =
                        s.load(p.start.as_ptr().add((block + n) * vectors + gate * S::LANES));
                    for acc in &mut acc {
                        acc[n].as_mut()[gate] = start;
                    }
                }
            }
            let mut x = [p.x.as_ptr(); R];
            for r in 0..R {
                x[r] = x[r].add((row + r) * p.x_stride);
            }
            multiply(s, w, x, p.w.inputs, &mut acc);
            for r in 0..R {
                let out = p.out.as_mut_ptr().add((row + r) * p.w.width() + block * vectors);
                for n in 0..N {
                    for gate in 0..L::LEN {
                        s.store(acc[r][n].as_ref()[gate], out.add(n * vectors + gate * S::LANES));
                    }
                }
            }
        }
    }
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
    /// `b + W_ih x` of each row, `[rows, w.width()]`.
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
    /// Whether to begin with the last block.
    pub(crate) backwards: bool,
}

impl<E: Element> Step<'_, E> {
    /// Runs the step with cell `C`.
    #[inline(always)]
    pub(crate) fn run<S: Simd<E>, C: Cell>(self, s: S) {
        let (w, rows) = (self.w, self.rows);
        let states = <C::State<S::V> as List<S::V>>::LEN;
        let units = w.blocks * w.lanes;
        assert_eq!((w.gates, w.lanes), (<C::Gates<S::V> as List<S::V>>::LEN, S::LANES));
        assert_eq!(w.data.len(), w.blocks * w.block_len());
        assert_eq!(self.start.len(), w.width());
        assert!(self.sums.len() >= rows * w.width());
        assert!(self.h_stride >= w.inputs && self.h_prev.len() >= rows * self.h_stride);
        // A cell without projection reads its own units of `h_prev`, padding included.
        assert!(states > 1 || self.h_stride >= units);
        assert!(self.h.len() >= rows * units);
        assert!(self.c.len() >= (states - 1) * rows * units);
        let (blocks, backwards) = (w.blocks, self.backwards);
        let mut tile = StepTile { s, step: self, cell: core::marker::PhantomData::<C> };
        // SAFETY: the lengths were just compared with the rows and blocks.
        unsafe { walk(&mut tile, rows, blocks, backwards) }
    }
}

struct StepTile<'a, E, S, C> {
    s: S,
    step: Step<'a, E>,
    cell: core::marker::PhantomData<C>,
}

impl<E: Element, S: Simd<E>, C: Cell> StepTile<'_, E, S, C> {
    /// What the chains of one row and block start from, and the input halves of split gates.
    ///
    /// # Safety
    /// The row and block must exist.
    #[inline(always)]
    unsafe fn begin(&self, row: usize, block: usize) -> (C::Gates<S::V>, C::Gates<S::V>) {
        let (s, p) = (self.s, &self.step);
        let mut h = C::Gates::<S::V>::all(s.splat(E::ZERO));
        let mut x = h;
        for gate in 0..<C::Gates<S::V> as List<S::V>>::LEN {
            let at = (block * p.w.gates + gate) * S::LANES;
            // SAFETY: `Step::run` checked both slices against the rows and blocks.
            unsafe {
                let sum = s.load(p.sums.as_ptr().add(row * p.w.width() + at));
                x.as_mut()[gate] = sum;
                h.as_mut()[gate] =
                    if C::SPLIT[gate] { s.load(p.start.as_ptr().add(at)) } else { sum };
            }
        }
        (h, x)
    }

    /// Runs the cell on one row and block, from sums to state.
    ///
    /// # Safety
    /// The row and block must exist.
    #[inline(always)]
    unsafe fn finish(&mut self, row: usize, block: usize, h: C::Gates<S::V>) {
        let s = self.s;
        // SAFETY: the caller's.
        let (_, x) = unsafe { self.begin(row, block) };
        let p = &mut self.step;
        let unit = block * S::LANES;
        let at = row * p.w.blocks * S::LANES + unit;
        let mut state = C::State::<S::V>::all(s.splat(E::ZERO));
        // SAFETY: `Step::run` checked the slices that this cell's states need.
        unsafe {
            if <C::State<S::V> as List<S::V>>::LEN > 1 {
                state.as_mut()[1] = s.load(p.c.as_ptr().add(at));
            } else {
                state.as_mut()[0] = s.load(p.h_prev.as_ptr().add(row * p.h_stride + unit));
            }
            let next = C::forward::<E, S>(s, x, h, state);
            s.store(next.as_ref()[0], p.h.as_mut_ptr().add(at));
            if <C::State<S::V> as List<S::V>>::LEN > 1 {
                s.store(next.as_ref()[1], p.c.as_mut_ptr().add(at));
            }
        }
    }
}

impl<E: Element, S: Simd<E>, C: Cell> Tile for StepTile<'_, E, S, C> {
    const GATES: usize = <C::Gates<S::V> as List<S::V>>::LEN;
    const REGISTERS: usize = S::REGISTERS;

    #[inline(always)]
    unsafe fn run<const R: usize, const N: usize>(&mut self, row: usize, block: usize) {
        let mut acc = [[C::Gates::<S::V>::all(self.s.splat(E::ZERO)); N]; R];
        // SAFETY: `Step::run` checked every slice against the rows and blocks.
        unsafe {
            for r in 0..R {
                for n in 0..N {
                    acc[r][n] = self.begin(row + r, block + n).0;
                }
            }
            let p = &self.step;
            let mut w = [p.w.data.as_ptr(); N];
            for n in 0..N {
                w[n] = w[n].add((block + n) * p.w.block_len());
            }
            let mut h = [p.h_prev.as_ptr(); R];
            for r in 0..R {
                h[r] = h[r].add((row + r) * p.h_stride);
            }
            multiply(self.s, w, h, p.w.inputs, &mut acc);
            for r in 0..R {
                for n in 0..N {
                    self.finish(row + r, block + n, acc[r][n]);
                }
            }
        }
    }
}
