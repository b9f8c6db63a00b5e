//! One layer in one direction, from its last computed step back to its first.
#![allow(unsafe_code, reason = "rows and units of derivatives are shared out among threads")]

use core::marker::PhantomData;
use core::ops::Range;

use tidegate_simd::{Kernel, Level, Simd};

use super::dispatch::BackWork;
use super::transposed::Deltas;
use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::cell::{Cell, List, Visitor, visit};
use crate::cuts::Cuts;
use crate::exchange::Member;
use crate::kernel::pack::Packed;
use crate::kernel::step_back::StepBack;
use crate::kernel::sums::Sums;
use crate::rows::{RowsIn, RowsOut};
use crate::saved::SavedScan;
use crate::weights::Direction;
use crate::{Element, Mode};

/// One layer in one direction back through (some steps and rows of) a batch of sequences.
#[derive(Copy, Clone)]
pub(crate) struct BackScan<'a, E> {
    pub(crate) direction: &'a Direction<E>,
    /// `W_hh^T`.
    pub(crate) w_hh: &'a Packed<E>,
    /// `W_hr^T`, if there is a projection.
    pub(crate) w_hr: Option<&'a Packed<E>>,
    /// What products of these start from.
    pub(crate) zeros: &'a [E],
    /// How rows of derivatives are made up.
    pub(crate) form: Deltas,
    /// Which sequences are alive when.
    pub(crate) batch: Batch<'a>,
    /// Whether forward began with the last step.
    pub(crate) reverse: bool,
    /// What forward kept, or what was computed again, of rows from row `base` of all steps on.
    pub(crate) saved: &'a SavedScan<E>,
    pub(crate) base: usize,
    /// By the output of this layer and direction, if the loss depends on it.
    pub(crate) d_output: Option<RowsIn<'a, E>>,
    /// Where the sequences are cut.
    pub(crate) cuts: Option<Cuts<'a>>,
    /// By the gates' sums of all steps.
    pub(crate) deltas: RowsOut<'a, E>,
    /// With projection, by its results.
    pub(crate) d_projected: Option<RowsOut<'a, E>>,
}

/// The part of a scan that a thread computes.
pub(crate) struct Part<'a, E> {
    /// The sequences.
    pub(crate) rows: Range<usize>,
    /// The blocks of units.
    pub(crate) blocks: Range<usize>,
    /// The member that computes them, where others compute the other blocks of the same rows at the same time.
    pub(crate) member: Option<Member<'a, E>>,
}

/// What goes from step to step, for the rows of one scan, and what a step works in.
///
/// After a scan of some of the units only these are right.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackCarry<E> {
    /// By the `h` that left a step, but for its output's: `[rows, h_stride]`.
    d_h: Buffer<E>,
    /// By `c`: `[rows, units]`; empty for cells without.
    d_c: Buffer<E>,
    /// By the states after cuts, `[rows, h_stride]` and `[rows, units]`.
    reset_h: Buffer<E>,
    reset_c: Buffer<E>,
    /// By the `h` that left a step: all of the above and the output's.
    total: Buffer<E>,
    /// By the `h` before projection.
    unprojected: Buffer<E>,
    /// By the `h` that entered, what came beside the gates: `[rows, units]`.
    direct: Buffer<E>,
}

impl<E: Element> BackCarry<E> {
    /// Begins with step `t` of `d_h` and `d_c`, of the sequences `rows`; where these are absent, with zeros.
    pub(crate) fn load(
        &mut self,
        direction: &Direction<E>,
        mode: Mode,
        t: usize,
        rows: Range<usize>,
        d_h: Option<RowsIn<'_, E>>,
        d_c: Option<RowsIn<'_, E>>,
    ) {
        self.clear(direction, mode, rows.len());
        for (at, b) in rows.enumerate() {
            if let Some(d_h) = d_h {
                d_h.read(t, b, &mut self.d_h[at * direction.h_stride()..]);
            }
            if let Some(d_c) = d_c {
                d_c.read(t, b, &mut self.d_c[at * direction.units()..]);
            }
        }
    }

    /// Adds what is left at the end to step `t` of the gradients of `h_0`, `c_0` and the states after cuts.
    ///
    /// # Safety
    /// No other thread may access these rows of them at the same time.
    pub(crate) unsafe fn add_to(
        &self,
        direction: &Direction<E>,
        t: usize,
        rows: Range<usize>,
        [h_0, c_0, reset_h, reset_c]: &[Option<RowsOut<'_, E>>; 4],
    ) {
        let (stride, units) = (direction.h_stride(), direction.units());
        for (to, from, width) in [
            (h_0, &self.d_h, stride),
            (c_0, &self.d_c, units),
            (reset_h, &self.reset_h, stride),
            (reset_c, &self.reset_c, units),
        ] {
            let Some(to) = to else { continue };
            for (at, b) in rows.clone().enumerate() {
                // SAFETY: the caller's.
                unsafe { to.add(t, b, &from[at * width..]) }
            }
        }
    }

    /// Begins where `other` is, of `rows` rows of a cell without projection.
    pub(crate) fn copy_from(
        &mut self,
        other: &Self,
        direction: &Direction<E>,
        mode: Mode,
        rows: usize,
    ) {
        self.clear(direction, mode, rows);
        self.take_units(other, direction, mode, rows, 0..direction.units());
    }

    /// Takes over some units of what goes from step to step, of `rows` rows of a cell without projection.
    pub(crate) fn take_units(
        &mut self,
        other: &Self,
        direction: &Direction<E>,
        mode: Mode,
        rows: usize,
        units: Range<usize>,
    ) {
        let width = direction.units();
        let of_h = [(&mut self.d_h, &other.d_h), (&mut self.reset_h, &other.reset_h)];
        let of_c = [(&mut self.d_c, &other.d_c), (&mut self.reset_c, &other.reset_c)];
        let cells = if mode.has_cell_state() { 2 } else { 0 };
        for (to, from) in of_h.into_iter().chain(of_c.into_iter().take(cells)) {
            for row in 0..rows {
                let at = row * width + units.start..row * width + units.end;
                to[at.clone()].copy_from_slice(&from[at]);
            }
        }
    }

    /// Makes room for `rows` rows, with zeros everywhere.
    fn clear(&mut self, direction: &Direction<E>, mode: Mode, rows: usize) {
        let (stride, units) = (direction.h_stride(), direction.units());
        let cells = if mode.has_cell_state() { units } else { 0 };
        for (buffer, width) in [
            (&mut self.d_h, stride),
            (&mut self.d_c, cells),
            (&mut self.reset_h, stride),
            (&mut self.reset_c, cells),
            (&mut self.total, stride),
            (&mut self.unprojected, units),
            (&mut self.direct, units),
        ] {
            buffer.reserve(rows * width);
            buffer.fill(E::ZERO);
        }
    }
}

impl<E: Element> BackScan<'_, E> {
    /// Goes back through the steps at `positions` in the order of computation, for a `part` of the scan: from
    /// the derivatives in `carry` to those by what entered the first.
    ///
    /// # Safety
    /// No other thread may access these rows of the derivatives at the same time, but for the other members of a part that
    /// has one: all of them must run at once, on the same positions and rows, and their blocks must be all blocks, each once.
    pub(crate) unsafe fn run(
        self,
        mode: Mode,
        level: Level,
        positions: Range<usize>,
        part: Part<'_, E>,
        carry: &mut BackCarry<E>,
    ) {
        assert!(part.member.is_none() || self.w_hr.is_none());
        E::go_back(BackWork::Scan(ScanWork { mode, level, scan: self, positions, part, carry }));
    }
}

/// A scan with all it needs: chooses the cell, then the instruction set.
pub(crate) struct ScanWork<'a, E> {
    mode: Mode,
    level: Level,
    scan: BackScan<'a, E>,
    positions: Range<usize>,
    part: Part<'a, E>,
    carry: &'a mut BackCarry<E>,
}

impl<E: Element> ScanWork<'_, E> {
    /// Runs the scan.
    pub(crate) fn run(self) {
        visit(self.mode, self);
    }
}

impl<E: Element> Visitor for ScanWork<'_, E> {
    type Output = ();
    fn visit<C: Cell>(self) {
        E::run(self.level, Loop { call: self, cell: PhantomData::<C> });
    }
}

/// The time loop, compiled for one cell and one instruction set.
struct Loop<'a, E, C> {
    call: ScanWork<'a, E>,
    cell: PhantomData<C>,
}

impl<E: Element, C: Cell> Kernel<E> for Loop<'_, E, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let ScanWork { level, scan, positions, part, carry, .. } = self.call;
        for position in positions.rev() {
            scan.step::<S, C>(s, level, position, &part, carry);
        }
    }
}

impl<E: Element> BackScan<'_, E> {
    /// Goes back through the step at `position`.
    #[inline(always)]
    fn step<S: Simd<E>, C: Cell>(
        &self,
        s: S,
        level: Level,
        position: usize,
        part: &Part<'_, E>,
        carry: &mut BackCarry<E>,
    ) {
        let t = if self.reverse { self.batch.steps() - 1 - position } else { position };
        let all = &part.rows;
        let rows = self.batch.rows_at(t).clamp(all.start, all.end) - all.start;
        if rows == 0 {
            return;
        }
        let (direction, alone) = (self.direction, all.len() == 1);
        let (stride, units) = (direction.h_stride(), direction.units());
        self.add_up(t, all.start, rows, carry);
        if let (Some(w_hr), Some(d_projected)) = (self.w_hr, &self.d_projected) {
            for b in 0..rows {
                // SAFETY: the rows are this scan's; the caller of `run` vouches for them.
                unsafe { d_projected.write(t, all.start + b, &carry.total[b * stride..]) }
            }
            let (x, start) = (&carry.total, &self.zeros[..w_hr.width()]);
            let (out, blocks) = (&mut carry.unprojected[..], 0..w_hr.blocks);
            let sums = Sums { w: w_hr, start, x, x_stride: stride, out, rows, alone, blocks };
            E::sums(level, sums, None);
        }
        let first = self.batch.rows_before(t) + all.start - self.base;
        let deltas = self.deltas.place(t, all.start);
        let step = StepBack {
            saved: &self.saved.gates[first * units * <C::Saved<()> as List<()>>::LEN..],
            h: &self.saved.h[first * stride..],
            h_stride: stride,
            c: self.saved.c.get(first * units..).unwrap_or_default(),
            d_h: if self.w_hr.is_some() { &carry.unprojected } else { &carry.total },
            d_c: &mut carry.d_c,
            direct: &mut carry.direct,
            deltas,
            stride: self.form.stride,
            rows,
            units: self.form.units,
            blocks: part.blocks.clone(),
        };
        // SAFETY: the rows of a step lie one after the other; this part of them is this scan's.
        unsafe { step.run::<S, C>(s) }
        if let Some(member) = part.member {
            member.meet();
        }
        // SAFETY: all units of these rows have been computed, and nobody writes them again.
        let deltas = unsafe { core::slice::from_raw_parts(deltas, rows * self.form.stride) };
        let (w_hh, start) = (self.w_hh, &self.zeros[..self.w_hh.width()]);
        let x = &deltas[self.form.recurrent.first * self.form.units..];
        // Those of `W_hh^T` are of the units of `h`: without projection those of the gates.
        let blocks = if self.w_hr.is_some() { 0..w_hh.blocks } else { part.blocks.clone() };
        let out = &mut carry.d_h[..];
        let x_stride = self.form.stride;
        let sums = Sums { w: w_hh, start, x, x_stride, out, rows, alone, blocks };
        E::sums(level, sums, None);
        if C::DIRECT {
            // A cell with it has no projection, so both are as wide.
            for (d_h, direct) in carry.d_h.iter_mut().zip(&carry.direct[..rows * units]) {
                *d_h = *d_h + *direct;
            }
        }
        self.cut::<C>(t, all.start, rows, carry);
    }

    /// Adds up the derivatives by the `h` of step `t`, of `rows` sequences from `first` on.
    #[inline(always)]
    fn add_up(&self, t: usize, first: usize, rows: usize, carry: &mut BackCarry<E>) {
        let stride = self.direction.h_stride();
        for b in 0..rows {
            let total = &mut carry.total[b * stride..][..stride];
            match &self.d_output {
                Some(d_output) => d_output.read(t, first + b, total),
                None => total.fill(E::ZERO),
            }
            for (total, d_h) in total.iter_mut().zip(&carry.d_h[b * stride..]) {
                *total = *d_h + *total;
            }
        }
    }

    /// Hands what would go on across a cut to the states after it.
    #[inline(always)]
    fn cut<C: Cell>(&self, t: usize, first: usize, rows: usize, carry: &mut BackCarry<E>) {
        let Some(cuts) = &self.cuts else { return };
        let (stride, units) = (self.direction.h_stride(), self.direction.units());
        for b in (0..rows).filter(|b| cuts.enters(t, first + b, self.reverse)) {
            let at = b * stride..(b + 1) * stride;
            hand_over(&mut carry.reset_h[at.clone()], &mut carry.d_h[at]);
            if <C::State<()> as List<()>>::LEN > 1 {
                let at = b * units..(b + 1) * units;
                hand_over(&mut carry.reset_c[at.clone()], &mut carry.d_c[at]);
            }
        }
    }
}

/// `to += from`, and `from` becomes zero.
fn hand_over<E: Element>(to: &mut [E], from: &mut [E]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *to + core::mem::take(from);
    }
}
