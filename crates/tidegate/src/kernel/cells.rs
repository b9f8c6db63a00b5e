//! From the sums of a step's gates to its state: the cell's arithmetic at some rows and blocks of units.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per vector")]
#![allow(clippy::needless_range_loop, reason = "places and gates index several lists at once")]

use core::marker::PhantomData;

use tidegate_simd::{Element, Routine, Several, SideBySide, Simd};

use crate::cell::{Cell, List};

/// What the cells of a step read and write beside the sums of its gates.
#[derive(Copy, Clone, Debug)]
pub(super) struct Cells<E> {
    /// `b + W_ih x` of each row, `[rows, width]`; of a step that computes it itself, nothing.
    pub(super) sums: *const E,
    /// Elements of a row of sums.
    pub(super) width: usize,
    /// The state before the step, `[rows, h_stride]`.
    pub(super) h_prev: *const E,
    pub(super) h_stride: usize,
    /// The state after the step, `[rows, units]`.
    pub(super) h: *mut E,
    /// The cell state, replaced in place, `[rows, units]`, of a cell that has one.
    pub(super) c: *mut E,
    /// Elements of a row of `h` and `c`.
    pub(super) units: usize,
    /// Where what backward needs goes, `[rows, blocks, values, lanes]`, if a step keeps it.
    pub(super) saved: *mut E,
}

/// A row and a block of units.
pub(super) type At = (usize, usize);

impl<E: Element> Cells<E> {
    /// Runs cell `C` at `N` places, one beside the other: from `h`, the sums of its gates or the recurrent halves of
    /// those that are split, whose other halves are in `x`, to the state; writes what backward needs if it is to `KEEP` it.
    /// Does `meanwhile` in two parts ([`Cell::forward`]).
    ///
    /// # Safety
    /// The rows and blocks must exist.
    #[inline(always)]
    pub(super) unsafe fn run<S, C, const KEEP: bool, const N: usize>(
        &self,
        s: S,
        places: [At; N],
        x: C::Gates<S::V>,
        h: C::Gates<S::V>,
        meanwhile: impl FnMut(usize),
    ) where
        S: SideBySide<E, N>,
        C: Cell,
    {
        let states = <C::State<S::V> as List<S::V>>::LEN;
        let mut state = C::State::<S::V>::all(s.splat(E::ZERO));
        let at = |stride: usize| places.map(|(row, block)| row * stride + block * S::BLOCK);
        // SAFETY: whoever made this compared what the cell needs with the rows and blocks; the caller vouches for these.
        unsafe {
            if states > 1 {
                state.as_mut()[1] = s.load_each(self.c, at(self.units));
            } else {
                state.as_mut()[0] = s.load_each(self.h_prev, at(self.h_stride));
            }
            let (next, saved) = C::forward::<E, S>(s, x, h, state, meanwhile);
            let at = at(self.units);
            s.store_each(next.as_ref()[0], self.h, at);
            if states > 1 {
                s.store_each(next.as_ref()[1], self.c, at);
            }
            if KEEP {
                let values = <C::Saved<S::V> as List<S::V>>::LEN;
                for value in 0..values {
                    let to = at.map(|at| at * values + value * S::BLOCK);
                    s.store_each(saved.as_ref()[value], self.saved, to);
                }
            }
        }
    }
}

/// Some rows of some blocks.
#[derive(Copy, Clone, Debug)]
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) block: usize,
    pub(super) blocks: usize,
}

/// A compiled [`CellsOfTile`].
pub(super) type RunCells<E> = unsafe fn(&Cells<E>, &mut Place, *const E);

/// Runs cell `C` at all places of a tile whose sums, `[rows, blocks, gates, lanes]`, the pointer is to; of gates that are
/// split, the recurrent halves. Two at a time: a fiftieth less time (Zen 4).
pub(super) struct CellsOfTile<C, const KEEP: bool>(PhantomData<C>);

impl<E: Element, C: Cell, const KEEP: bool> Routine<E> for CellsOfTile<C, KEEP> {
    type Of = Cells<E>;
    type State = Place;

    #[inline(always)]
    unsafe fn run<S: Simd<E>>(s: S, cells: &Cells<E>, place: &mut Place, sums: *const E) {
        let (cells, Place { row, rows, block, blocks }) = (*cells, *place);
        let mut next = (row, block);
        let mut take = || {
            let taken = next;
            next.1 += 1;
            if next.1 == block + blocks {
                next = (next.0 + 1, block);
            }
            taken
        };
        let all = rows * blocks;
        // SAFETY: the caller's.
        unsafe {
            for first in (0..all / 2).map(|pair| 2 * pair) {
                Self::at::<E, S, 2>(s, &cells, [take(), take()], sums, first);
            }
            if all % 2 == 1 {
                Self::at::<E, S, 1>(s, &cells, [take()], sums, all - 1);
            }
        }
    }
}

impl<C: Cell, const KEEP: bool> CellsOfTile<C, KEEP> {
    /// Runs it at `N` of the places, of which the tile's `first` one is the first.
    ///
    /// # Safety
    /// They must exist.
    #[inline(always)]
    unsafe fn at<E: Element, S: Simd<E>, const N: usize>(
        s: S,
        cells: &Cells<E>,
        places: [At; N],
        sums: *const E,
        first: usize,
    ) {
        let several = Several::<S, N>::new(s);
        let gates = <C::Gates<S::V> as List<S::V>>::LEN;
        let mut x = C::Gates::<[S::V; N]>::all(several.splat(E::ZERO));
        let mut h = x;
        // SAFETY: the caller's.
        unsafe {
            for gate in 0..gates {
                let at = core::array::from_fn(|n| ((first + n) * gates + gate) * S::LANES);
                h.as_mut()[gate] = several.load_each(sums, at);
                if C::SPLIT[gate] {
                    let at = places
                        .map(|(row, block)| row * cells.width + (block * gates + gate) * S::BLOCK);
                    x.as_mut()[gate] = several.load_each(cells.sums, at);
                }
            }
            cells.run::<_, C, KEEP, N>(
                several,
                places,
                x,
                h,
                #[inline(always)]
                |_| (),
            );
        }
    }
}
