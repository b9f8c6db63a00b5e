//! Sums of many rows at once.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(
    clippy::needless_range_loop,
    reason = "rows, blocks and gates index several lists at once"
)]

use core::marker::PhantomData;
use core::ops::Range;

use tidegate_simd::{Element, Kernel, Simd};

use super::ahead::{Share, Weights};
use super::pack::Packed;
use super::stored::{Full, Half, Stored};
use super::tile::{Matrix, multiply, rows_at};
use super::walk::{Rows, Tile, walk};
use crate::cell::List;

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
    /// Whether the row, which must be one then, reads the weights laid out for one.
    pub(crate) alone: bool,
    /// The blocks of units to compute; the others' sums are left as they are.
    pub(crate) blocks: Range<usize>,
}

impl<E: Element> Kernel<E> for Sums<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        match self.w.gates {
            4 => self.run_gates::<S, [S::V; 4]>(s),
            3 => self.run_gates::<S, [S::V; 3]>(s),
            1 => self.run_gates::<S, [S::V; 1]>(s),
            gates => unreachable!("no cell has {gates} gates"),
        }
    }
}

impl<E: Element> Sums<'_, E> {
    /// Computes the sums, with `L` the list of the matrix's gates.
    #[inline(always)]
    pub(crate) fn run_gates<S: Simd<E>, L: List<S::V>>(self, s: S) {
        if const { E::BF16_WEIGHTS } && self.w.is_half() {
            self.run_list::<S, L, Half>(s);
        } else {
            self.run_list::<S, L, Full>(s);
        }
    }

    /// Computes the sums from weights kept as `W` says.
    #[inline(always)]
    fn run_list<S: Simd<E>, L: List<S::V>, W: Stored<E>>(self, s: S) {
        let w = Matrix::new::<E, S, L, W>(self.w, self.alone);
        let (rows, width) = (self.rows, w.width::<E, S, L>());
        assert_eq!(self.start.len(), width);
        assert!(rows == 0 || self.x.len() >= (rows - 1) * self.x_stride + w.inputs);
        assert!(self.out.len() >= rows * width);
        assert!(self.blocks.end <= w.blocks);
        assert!(rows == 1 || !self.alone);
        let walked = Rows::new(rows, self.alone, w.bytes::<E, S, L>());
        let mut tile = SumsTile {
            s,
            w,
            width,
            start: self.start.as_ptr(),
            x: self.x.as_ptr(),
            x_stride: self.x_stride,
            out: self.out.as_mut_ptr(),
            list: PhantomData::<(L, W)>,
        };
        // SAFETY: the lengths were just compared with the rows and blocks.
        unsafe { walk(&mut tile, walked, self.blocks, false) }
    }
}

/// [`Sums`] by value.
struct SumsTile<E, S, L, T, W> {
    s: S,
    w: Matrix<T>,
    width: usize,
    start: *const E,
    x: *const E,
    x_stride: usize,
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
    const LOW: bool = Self::LOW_OF_MANY;
    const LOW_OF_MANY: bool = S::Low::LANES < S::LANES;

    #[inline(always)]
    fn weights(&self, block: usize) -> Weights {
        self.w.weights::<S, E, L>(block)
    }

    #[inline(always)]
    fn is_low(&self, block: usize) -> bool {
        self.w.is_low::<E, S>(block)
    }

    #[inline(always)]
    fn low(&self) -> Self::Low {
        let Self { s, w, width, start, x, x_stride, out, .. } = *self;
        SumsTile { s: s.low(), w, width, start, x, x_stride, out, list: PhantomData }
    }

    #[inline(always)]
    unsafe fn run<const R: usize, const N: usize, const Q: usize, const AHEAD: bool>(
        &mut self,
        row: usize,
        block: usize,
        share: Share,
    ) {
        let (s, vectors) = (self.s, L::LEN * S::BLOCK);
        // SAFETY: `Sums::run_list` checked every slice against the rows and blocks.
        unsafe {
            let w = self.w.blocks_at::<E, S, L, N>(block);
            let x = rows_at::<E, R>(self.x, self.x_stride, row);
            let division = self.w.division::<Q>();
            let products = multiply::<_, _, L, W, R, N, Q, AHEAD>(s, w, x, division, share);
            let start = self.start.add(block * vectors);
            for r in 0..R {
                let out = self.out.add((row + r) * self.width + block * vectors);
                for n in 0..N {
                    for gate in 0..L::LEN {
                        let at = n * vectors + gate * S::BLOCK;
                        let sum = s.add(s.load(start.add(at)), products[r][n].as_ref()[gate]);
                        s.store(sum, out.add(at));
                    }
                }
            }
        }
    }
}
