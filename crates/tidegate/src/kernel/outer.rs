//! Sums of outer products over many rows: what the gradients of weights are.
//!
//! An output is the sum over chunks of rows of one chain of fused multiply-adds over the chunk's rows, in
//! order; chunks are added up one after the other. How outputs are cut into tiles changes no bit.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(clippy::needless_range_loop, reason = "rows and vectors index several lists at once")]

use core::ops::Range;

use tidegate_simd::{Element, Kernel, Level, Simd};

use super::tile::inputs_of_turn;
use crate::buffer::Buffer;

/// Vectors side by side in a panel of inputs.
const PANEL: usize = 4;

/// Columns of deltas that are used for all panels before the next ones: those of a chunk of rows stay in the
/// level-2 cache.
const COLUMNS: usize = 256;

/// Most rows of outputs in a tile of `vectors` vectors.
const fn most_columns(vectors: usize, registers: usize) -> usize {
    match (vectors, registers > 16) {
        (4, true) => 6,
        (_, true) => 8,
        (4, false) => 3,
        (_, false) => 4,
    }
}

/// Rows of inputs in panels of up to four vectors: `[panels, rows, vectors * lanes]`, filled up with zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels<E> {
    data: Buffer<E>,
    rows: usize,
    inputs: usize,
    lanes: usize,
}

impl<E: Element> Panels<E> {
    /// Prepares for `rows` rows of `inputs` elements.
    pub(crate) fn prepare(&mut self, level: Level, rows: usize, inputs: usize) {
        let lanes = E::lanes(level);
        self.data.reserve(rows * inputs.next_multiple_of(lanes));
        (self.rows, self.inputs, self.lanes) = (rows, inputs, lanes);
    }

    /// Sets row `row`, of which `read` copies some columns.
    pub(crate) fn fill(&mut self, row: usize, mut read: impl FnMut(Range<usize>, &mut [E])) {
        let wide = PANEL * self.lanes;
        for first in (0..self.inputs).step_by(wide) {
            let columns = (self.inputs - first).min(wide);
            let width = columns.next_multiple_of(self.lanes);
            let to = &mut self.data[first * self.rows + row * width..][..width];
            read(first..first + columns, &mut to[..columns]);
            to[columns..].fill(E::ZERO);
        }
    }
}

/// `out[column] += sum over rows of deltas[row][column] * x[row]`.
pub(crate) struct Outer<'a, E> {
    /// `[rows, stride]`, of which the first `columns` of each row are used.
    pub(crate) deltas: &'a [E],
    /// Elements from one row of `deltas` to the next.
    pub(crate) stride: usize,
    pub(crate) columns: usize,
    pub(crate) x: &'a Panels<E>,
    /// `[columns, inputs]`.
    pub(crate) out: &'a mut [E],
}

impl<E: Element> Kernel<E> for Outer<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { deltas, stride, columns, x, out } = self;
        let wide = PANEL * S::LANES;
        assert!(x.lanes == S::LANES);
        assert!(x.rows == 0 || deltas.len() >= (x.rows - 1) * stride + columns);
        assert!(x.data.len() >= x.rows * x.inputs.next_multiple_of(S::LANES));
        assert!(out.len() >= columns * x.inputs);
        for begin in (0..columns).step_by(COLUMNS) {
            let end = (begin + COLUMNS).min(columns);
            for first in (0..x.inputs).step_by(wide) {
                let left = (x.inputs - first).min(wide);
                // SAFETY: the panel, the columns and the outputs exist, as was just checked.
                unsafe {
                    let strip = Strip {
                        s,
                        deltas: deltas.as_ptr(),
                        stride,
                        x: x.data.as_ptr().add(first * x.rows),
                        rows: x.rows,
                        out: out.as_mut_ptr().add(first),
                        inputs: x.inputs,
                        last: left - (left.div_ceil(S::LANES) - 1) * S::LANES,
                    };
                    match left.div_ceil(S::LANES) {
                        1 => strip.run::<1>(begin..end),
                        2 => strip.run::<2>(begin..end),
                        3 => strip.run::<3>(begin..end),
                        _ => strip.run::<PANEL>(begin..end),
                    }
                }
            }
        }
    }
}

/// One panel's part of [`Outer`], by value.
struct Strip<E, S> {
    s: S,
    deltas: *const E,
    stride: usize,
    x: *const E,
    rows: usize,
    out: *mut E,
    inputs: usize,
    /// Elements of the last vector.
    last: usize,
}

impl<E: Element, S: Simd<E>> Strip<E, S> {
    /// Runs all tiles of the panel, which has `N` vectors.
    ///
    /// # Safety
    /// The columns must exist in the deltas and the outputs, the panel must have `rows` rows.
    #[inline(always)]
    unsafe fn run<const N: usize>(&self, columns: Range<usize>) {
        let mut column = columns.start;
        while column < columns.end {
            let left = columns.end - column;
            let most = const { most_columns(N, S::REGISTERS) };
            // SAFETY: no tile is longer than what is left.
            let taken = unsafe {
                match left {
                    8.. if most == 8 => self.tile::<N, 8>(column),
                    6.. if const { most_columns(N, S::REGISTERS) == 6 } => {
                        self.tile::<N, 6>(column)
                    }
                    4.. if most >= 4 => self.tile::<N, 4>(column),
                    3.. if const { most_columns(N, S::REGISTERS) == 3 } => {
                        self.tile::<N, 3>(column)
                    }
                    2.. => self.tile::<N, 2>(column),
                    _ => self.tile::<N, 1>(column),
                }
            };
            column += taken;
        }
    }

    /// Runs the tile of `R` columns of deltas from `column` on; returns `R`.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn tile<const N: usize, const R: usize>(&self, column: usize) -> usize {
        let s = self.s;
        let mut acc = [[s.splat(E::ZERO); N]; R];
        for r in 0..R {
            // Outputs may come from far, and are wanted after the last row: 0.95 of the time with 512 units (Emerald Rapids).
            let to = self.out.wrapping_add((column + r) * self.inputs);
            for n in 0..N {
                s.prefetch(to.wrapping_add(n * S::LANES).cast());
            }
        }
        let turn = const { inputs_of_turn(R * N, N + 1, S::REGISTERS) };
        let mut row = 0;
        // SAFETY: the caller's.
        unsafe {
            for _ in 0..self.rows / turn {
                for j in 0..turn {
                    self.multiply_one(row + j, column, &mut acc);
                }
                row += turn;
            }
            for _ in 0..self.rows % turn {
                self.multiply_one(row, column, &mut acc);
                row += 1;
            }
        }
        for r in 0..R {
            for n in 0..N {
                // SAFETY: the caller's.
                unsafe {
                    let to = self.out.add((column + r) * self.inputs + n * S::LANES);
                    if n + 1 < N || self.last == S::LANES {
                        s.store(s.add(s.load(to), acc[r][n]), to);
                    } else {
                        let sum = s.add(s.load_first(self.last, to), acc[r][n]);
                        s.store_first(sum, self.last, to);
                    }
                }
            }
        }
        R
    }

    /// `acc[r][n] += deltas[row][column + r] * x[row][n]`.
    ///
    /// # Safety
    /// As [`run`](Self::run), and the row must exist.
    #[inline(always)]
    unsafe fn multiply_one<const N: usize, const R: usize>(
        &self,
        row: usize,
        column: usize,
        acc: &mut [[S::V; N]; R],
    ) {
        let s = self.s;
        let mut inputs = [s.splat(E::ZERO); N];
        // SAFETY: the caller's.
        unsafe {
            let x = self.x.add(row * N * S::LANES);
            let delta = self.deltas.add(row * self.stride + column);
            for n in 0..N {
                inputs[n] = s.load(x.add(n * S::LANES));
            }
            for r in 0..R {
                let delta = s.splat(*delta.add(r));
                for n in 0..N {
                    acc[r][n] = s.mul_add(delta, inputs[n], acc[r][n]);
                }
            }
        }
    }
}

/// `out += sum over rows of deltas[row]`: an [`Outer`] product with ones.
pub(crate) struct ColumnSums<'a, E> {
    /// `[rows, stride]`.
    pub(crate) deltas: &'a [E],
    /// Elements from one row of `deltas` to the next.
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    /// As many columns as there are to sum up.
    pub(crate) out: &'a mut [E],
}

impl<E: Element> Kernel<E> for ColumnSums<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { deltas, stride, rows, out } = self;
        assert!(rows == 0 || deltas.len() >= (rows - 1) * stride + out.len());
        let columns = out.len();
        for first in (0..columns).step_by(S::LANES) {
            let count = (columns - first).min(S::LANES);
            let mut acc = s.splat(E::ZERO);
            // SAFETY: the columns exist, as was just checked.
            unsafe {
                for row in 0..rows {
                    let from = deltas.as_ptr().add(row * stride + first);
                    let delta =
                        if count == S::LANES { s.load(from) } else { s.load_first(count, from) };
                    acc = s.add(acc, delta);
                }
                let to = out.as_mut_ptr().add(first);
                s.store_first(s.add(s.load_first(count, to), acc), count, to);
            }
        }
    }
}
