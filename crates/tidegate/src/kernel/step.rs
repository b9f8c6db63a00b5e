//! One step of a cell: of many rows, or of one whose step is not the work of [`super::alone`].
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]

use core::marker::PhantomData;
use core::ops::Range;

use tidegate_simd::{Kernel, Level, Simd};

use super::ahead::row_asks;
use super::cells::{Cells, CellsOfTile};
use super::columns::{Columns, Start, To};
use super::matrix::Matrix;
use super::pack::Packed;
use super::room::{Room, Walk};
use super::step_tile::{HOISTED, InputTile, StepTile};
use super::stored::{Full, Half, Stored};
use super::walk::walk;
use crate::Element;
use crate::cell::{Cell, List};

/// One step of a cell.
///
/// Rows of `h_prev` are `h_stride` long, rows of `h` and `c` are `blocks * lanes`: the padding is
/// computed like any unit, from zero weights.
pub(crate) struct Step<'a, E> {
    /// `W_hh`.
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
    /// Runs the step with cell `C` at `level`, and writes what backward needs if it is to `KEEP` it; with `room` for the
    /// blocks of a matrix that is not packed.
    ///
    /// # Safety
    /// To keep it, `saved` must be writable for all rows.
    pub(crate) unsafe fn run<C: Cell, const KEEP: bool>(self, level: Level, room: &mut Room<E>) {
        let Self { w, start, sums, h_prev, h_stride, h, c, rows, alone, blocks, backwards, saved } =
            self;
        let blocks = Walk { blocks, backwards };
        room.each(level, w, blocks, alone, |w, blocks| {
            let (h, c) = (&mut *h, &mut *c);
            let step = Step {
                w,
                start,
                sums,
                h_prev,
                h_stride,
                h,
                c,
                rows,
                alone,
                blocks,
                backwards,
                saved,
            };
            if const { E::BF16_WEIGHTS } && w.is_half() {
                step.run_stored::<C, Half, KEEP>(level);
            } else {
                step.run_stored::<C, Full, KEEP>(level);
            }
        });
    }

    /// Runs the step with weights kept as `W` says.
    fn run_stored<C: Cell, W: Stored<E>, const KEEP: bool>(self, level: Level) {
        let (w, rows, width) = (self.w, self.rows, self.w.width());
        let states = <C::State<()> as List<()>>::LEN;
        let units = w.blocks * w.lanes;
        assert_eq!(self.start.len(), width);
        assert!(self.sums.len() >= rows * width);
        assert!(self.h_stride >= w.inputs && self.h_prev.len() >= rows * self.h_stride);
        // A cell without projection reads its own units of `h_prev`, padding included.
        assert!(states > 1 || self.h_stride >= units);
        assert!(self.h.len() >= rows * units);
        assert!(self.c.len() >= (states - 1) * rows * units);
        assert!(w.holds(&self.blocks));
        let cells = Cells {
            sums: self.sums.as_ptr(),
            width,
            h_prev: self.h_prev.as_ptr(),
            h_stride: self.h_stride,
            h: self.h.as_mut_ptr(),
            c: self.c.as_mut_ptr(),
            units,
            saved: self.saved,
        };
        let (blocks, backwards) = (self.blocks, self.backwards);
        if self.alone {
            assert!(rows == 1);
            let (start, cell) = (self.start, PhantomData);
            E::run(level, StepAlone::<_, C, W, KEEP> { w, start, cells, blocks, backwards, cell });
            return;
        }
        let mut start: <C::Gates<()> as List<()>>::Of<_> =
            List::all(Start { first: cells.sums, stride: width });
        for (start, _) in start.as_mut().iter_mut().zip(C::SPLIT).filter(|(_, split)| **split) {
            *start = Start { first: self.start.as_ptr(), stride: 0 };
        }
        let run = E::compiled::<CellsOfTile<C, KEEP>>(level);
        let columns = Columns::<_, C::Gates<()>, W> {
            w,
            start,
            x: cells.h_prev,
            x_stride: cells.h_stride,
            to: To::Cells(&cells, run),
            rows,
            blocks,
            backwards,
            stored: PhantomData,
        };
        E::run(level, columns);
    }
}

/// [`Step`] of a row alone, checked.
struct StepAlone<'a, E, C, W, const KEEP: bool> {
    // INVARIANT: what the pointers point to was compared with the row and the blocks.
    w: &'a Packed<E>,
    start: &'a [E],
    cells: Cells<E>,
    blocks: Range<usize>,
    backwards: bool,
    cell: PhantomData<(C, W)>,
}

impl<E, C, W, const KEEP: bool> Kernel<E> for StepAlone<'_, E, C, W, KEEP>
where
    E: Element,
    C: Cell,
    W: Stored<E>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { w, start, cells, blocks, backwards, cell } = self;
        let ahead = row_asks(w.held_bytes());
        let w = Matrix::new::<E, S, C::Gates<S::V>, W>(w, true);
        let start = start.as_ptr();
        let (start_of_input, x, next) =
            (core::ptr::null(), core::ptr::null(), core::ptr::null_mut());
        let input = InputTile { w, start: start_of_input, x, next };
        let tile =
            StepTile::<E, S, C, W::Item, W, KEEP, HOISTED> { s, w, start, input, cells, cell };
        // SAFETY: the invariant.
        unsafe { walk(&tile, ahead, blocks, backwards) }
    }
}
