//! Sums of many rows at once.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(
    clippy::needless_range_loop,
    reason = "rows, blocks and gates index several lists at once"
)]

use core::marker::PhantomData;
use core::ops::Range;

use tidegate_simd::{Element, Kernel, Level, Simd};

use super::ahead::{Share, row_asks};
use super::columns::{Columns, Start, To};
use super::matrix::Matrix;
use super::pack::Packed;
use super::room::{Room, Walk};
use super::stored::{Full, Half, Stored};
use super::tile::multiply;
use super::walk::{Tile, walk};
use crate::cell::List;

/// Sums of many rows: `out[row] = start + W x[row]`.
pub(crate) struct Sums<'a, E> {
    /// The matrix.
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
    /// Whether the row, which must be one then, reads the weights laid out for one.
    pub(crate) alone: bool,
    /// The blocks of units to compute; the others' sums are left as they are.
    pub(crate) blocks: Range<usize>,
}

impl<E: Element> Sums<'_, E> {
    /// Computes the sums at `level`, of a matrix that is packed or has `room` for its blocks.
    pub(crate) fn run(self, level: Level, room: Option<&mut Room<E>>) {
        let Some(room) = room else { return self.run_packed(level) };
        let Self { w, start, x, x_stride, out, rows, alone, blocks } = self;
        let blocks = Walk { blocks, backwards: false };
        room.each(level, w, blocks, alone, |w, blocks| {
            Sums { w, start, x, x_stride, out: &mut *out, rows, alone, blocks }.run_packed(level);
        });
    }

    /// Computes them of a matrix that holds all blocks.
    fn run_packed(self, level: Level) {
        match self.w.gates {
            4 => self.run_gates::<[(); 4]>(level),
            3 => self.run_gates::<[(); 3]>(level),
            1 => self.run_gates::<[(); 1]>(level),
            gates => unreachable!("no cell has {gates} gates"),
        }
    }

    /// Computes them of a matrix of as many gates as `L` has entries.
    fn run_gates<L: List<()>>(self, level: Level) {
        if const { E::BF16_WEIGHTS } && self.w.is_half() {
            self.run_stored::<L, Half>(level);
        } else {
            self.run_stored::<L, Full>(level);
        }
    }

    /// Computes them from weights kept as `W` says.
    fn run_stored<L: List<()>, W: Stored<E>>(self, level: Level) {
        let Self { w, start, x, x_stride, out, rows, alone, blocks } = self;
        assert_eq!(start.len(), w.width());
        assert!(rows == 0 || x.len() >= (rows - 1) * x_stride + w.inputs);
        assert!(out.len() >= rows * w.width());
        assert!(w.holds(&blocks));
        let (x, out) = (x.as_ptr(), out.as_mut_ptr());
        if alone {
            assert!(rows == 1);
            E::run(level, SumsAlone { w, start, x, out, blocks, list: PhantomData::<(L, W)> });
            return;
        }
        let columns = Columns::<_, L, W> {
            w,
            start: List::all(Start { first: start.as_ptr(), stride: 0 }),
            x,
            x_stride,
            to: To::Rows(out),
            rows,
            blocks,
            backwards: false,
            stored: PhantomData,
        };
        E::run(level, columns);
    }
}

/// [`Sums`] of a row alone, checked.
struct SumsAlone<'a, E, L, W> {
    // INVARIANT: what the pointers point to was compared with the matrix and the blocks.
    w: &'a Packed<E>,
    start: &'a [E],
    x: *const E,
    out: *mut E,
    blocks: Range<usize>,
    list: PhantomData<(L, W)>,
}

impl<E: Element, L: List<()>, W: Stored<E>> Kernel<E> for SumsAlone<'_, E, L, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { w, start, x, out, blocks, .. } = self;
        let ahead = row_asks(w.held_bytes());
        let w = Matrix::new::<E, S, L::Of<S::V>, W>(w, true);
        let (start, list) = (start.as_ptr(), PhantomData::<(L::Of<S::V>, W)>);
        // SAFETY: the invariant.
        unsafe { walk(&SumsTile { s, w, start, x, out, list }, ahead, blocks, false) }
    }
}

/// The same by value.
struct SumsTile<E, S, L, T, W> {
    s: S,
    w: Matrix<T>,
    start: *const E,
    x: *const E,
    out: *mut E,
    list: PhantomData<(L, W)>,
}

impl<E, S, L, W> Tile for SumsTile<E, S, L, W::Item, W>
where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
    W: Stored<E>,
{
    const GATES: usize = L::LEN;
    const REGISTERS: usize = S::REGISTERS;
    type Low = SumsTile<E, S::Low, L::Of<<S::Low as Simd<E>>::V>, W::Item, W>;
    const LOW: bool = S::Low::LANES < S::LANES;

    #[inline(always)]
    fn is_low(&self, block: usize) -> bool {
        self.w.is_low::<E, S>(block)
    }

    #[inline(always)]
    fn low(&self) -> Self::Low {
        let Self { s, w, start, x, out, .. } = *self;
        SumsTile { s: s.low(), w, start, x, out, list: PhantomData }
    }

    #[inline(always)]
    unsafe fn run<const N: usize, const Q: usize, const AHEAD: bool>(&self, block: usize) {
        let (s, vectors) = (self.s, L::LEN * S::BLOCK);
        // SAFETY: `Sums::run_stored` checked every slice against the blocks.
        unsafe {
            let w = self.w.blocks_at::<E, S, L, N>(block);
            let (division, share) = (self.w.division::<Q>(), Share::NOTHING);
            let [products] =
                multiply::<_, _, L, W, 1, N, Q, AHEAD>(s, w, [self.x], division, share);
            for n in 0..N {
                for gate in 0..L::LEN {
                    let at = (block + n) * vectors + gate * S::BLOCK;
                    let sum = s.add(s.load(self.start.add(at)), products[n].as_ref()[gate]);
                    s.store(sum, self.out.add(at));
                }
            }
        }
    }
}
