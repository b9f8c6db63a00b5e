//! Who runs the time loops of a pass: threads with sequences or directions of their own, or with units of all.
#![allow(unsafe_code, reason = "derivatives are shared out among threads")]

use core::ops::Range;

use super::scan::{BackCarry, BackScan, Part};
use super::transposed::Transposed;
use super::{BackCall, BackTask, Pass};
use crate::batch::Batch;
use crate::crew::Crew;
use crate::exchange::{Exchange, Watch, share_of};
use crate::plan::Plan;
use crate::saved::SavedScan;
use crate::stack::Stack;
use crate::weights::Direction;
use crate::{Element, memory, threads};

/// Fewest blocks of units of a thread. Measured on Granite Rapids with two threads, units / sequences: 1.08 and 1.09 with 4
/// blocks each (ragged batches of 128 units), 0.86 and 0.97 with 8 (one sequence of 256 units, and ragged batches), 0.9 with
/// 16 (512 units, 16 sequences).
const LEAST_BLOCKS: usize = if cfg!(miri) { 1 } else { 8 };

impl<E: Element> Stack<E> {
    /// How many of `crew` share out the units of the time loops, where that is better than the sequences in `parts`; else 1.
    pub(super) fn members_back(&self, batch: &Batch<'_>, parts: usize, crew: Crew) -> usize {
        let Plan::Units(members) = self.plan(batch, true, crew.threads) else { return 1 };
        let blocks = self.directions.iter().map(|direction| direction.w_hh.blocks).min();
        let work = self.work(batch.rows_before(batch.steps())) / self.config.num_layers;
        let most = (blocks.unwrap_or(0) / LEAST_BLOCKS).min(crew.worth(members, work));
        let members = members.min(most);
        if members > 1 && members >= parts { members } else { 1 }
    }
}

impl<'a, E: Element> BackCall<'a, E> {
    /// Runs the time loops of a pass: directions and rows on different threads, or units.
    pub(super) fn scans(
        &self,
        pass: &Pass<'_, E>,
        again: Option<&[SavedScan<E>; 2]>,
        tasks: &mut Vec<BackTask<E>>,
        exchange: &mut Exchange<E>,
    ) {
        let (config, parts) = (&self.stack.config, self.parts);
        if self.members > 1 {
            for direction in 0..config.num_directions() {
                self.scan_by_units(pass, again, direction, tasks, exchange);
            }
            return;
        }
        let count = config.num_directions() * parts;
        memory::lengthen(tasks, count);
        self.crew.for_each(&mut tasks[..count], |k, task| {
            let (direction, rows) = (k / parts, self.job.batch.part(k % parts, parts));
            let blocks = 0..self.packed(pass, direction).w_hh.blocks;
            self.begin(pass, direction, rows.clone(), &mut task.carry);
            // SAFETY: the parts have different rows or directions.
            unsafe {
                let part = Part { rows: rows.clone(), blocks, member: None };
                self.scan(pass, again, direction, part, &mut task.carry);
                self.end(pass, direction, rows, &task.carry);
            }
        });
    }

    /// Runs the time loop of one direction, whose units are shared out; its first task's carry is that of all units between
    /// the passes.
    fn scan_by_units(
        &self,
        pass: &Pass<'_, E>,
        again: Option<&[SavedScan<E>; 2]>,
        direction: usize,
        tasks: &mut Vec<BackTask<E>>,
        exchange: &mut Exchange<E>,
    ) {
        let (members, rows, mode) = (self.members, self.job.batch.rows(), self.stack.config.mode);
        let packed = self.packed(pass, direction);
        let (all, lanes) = (packed.w_hh.blocks, packed.w_hh.lanes);
        memory::lengthen(tasks, (direction + 1) * members);
        let tasks = &mut tasks[direction * members..][..members];
        self.begin(pass, direction, 0..rows, &mut tasks[0].carry);
        if let [first, others @ ..] = &mut *tasks {
            for other in others {
                other.carry.copy_from(&first.carry, packed, mode, rows);
            }
        }
        exchange.prepare(members, 0);
        let (steps, batch) = (&pass.steps[direction], &self.job.batch);
        let rows_of_steps = batch.rows_before(steps.end) - batch.rows_before(steps.start);
        let work = rows_of_steps.saturating_mul(packed.w_hh.len());
        let met = threads::together(tasks, work, |k, task| {
            // SAFETY: each `k` below `members` is called once, all at the same time.
            let member = unsafe { exchange.member(k, members) };
            let _watch = Watch(member);
            let part = Part { rows: 0..rows, blocks: member.blocks(all), member: Some(member) };
            // SAFETY: the members share out the units of all rows.
            unsafe { self.scan(pass, again, direction, part, &mut task.carry) }
        });
        let [first, others @ ..] = tasks else { return };
        for (k, other) in (1..members).zip(others).filter(|_| met) {
            let blocks = share_of(k, members, all);
            let units = blocks.start * lanes..blocks.end * lanes;
            first.carry.take_units(&other.carry, packed, mode, rows, units);
        }
        // SAFETY: nothing else is running.
        unsafe {
            if !met {
                let part = Part { rows: 0..rows, blocks: 0..all, member: None };
                self.scan(pass, again, direction, part, &mut first.carry);
            }
            self.end(pass, direction, 0..rows, &first.carry);
        }
    }

    /// The weights of one direction of the layer of a pass.
    fn packed(&self, pass: &Pass<'_, E>, direction: usize) -> &'a Direction<E> {
        &self.stack.directions[pass.layer * self.stack.config.num_directions() + direction]
    }

    /// Sets `carry`, which is the same in every pass, to where the time loop of the sequences `rows` begins.
    fn begin(
        &self,
        pass: &Pass<'_, E>,
        direction: usize,
        rows: Range<usize>,
        carry: &mut BackCarry<E>,
    ) {
        if pass.is_first {
            let Stack { config, .. } = self.stack;
            let index = pass.layer * config.num_directions() + direction;
            let (packed, job) = (self.packed(pass, direction), &self.job);
            carry.load(packed, config.mode, index, rows, job.d_h_n, job.d_c_n);
        }
    }

    /// Hands on what is left in `carry` at the end of the time loop of the sequences `rows`.
    ///
    /// # Safety
    /// No other thread may do so for these rows of this direction at the same time.
    unsafe fn end(
        &self,
        pass: &Pass<'_, E>,
        direction: usize,
        rows: Range<usize>,
        carry: &BackCarry<E>,
    ) {
        if pass.is_last {
            let index = pass.layer * self.stack.config.num_directions() + direction;
            // SAFETY: the caller's.
            unsafe { carry.add_to(self.packed(pass, direction), index, rows, &self.job.d_states) }
        }
    }

    /// Runs a part of the time loop of one direction.
    ///
    /// # Safety
    /// As [`BackScan::run`].
    unsafe fn scan(
        &self,
        pass: &Pass<'_, E>,
        again: Option<&[SavedScan<E>; 2]>,
        direction: usize,
        part: Part<'_, E>,
        carry: &mut BackCarry<E>,
    ) {
        let Stack { config, level, .. } = self.stack;
        let (job, size) = (&self.job, config.output_size());
        let index = pass.layer * config.num_directions() + direction;
        let packed = self.packed(pass, direction);
        let d_output = if pass.layer + 1 == config.num_layers {
            job.d_output
        } else {
            // SAFETY: the layer above is done.
            Some(unsafe { self.between[pass.layer % 2].reader() })
        };
        let Transposed { w_hh: Some(w_hh), w_hr, .. } = &self.transposed[index] else { return };
        let (saved, base) = self.saved(pass, again, direction);
        let scan = BackScan {
            direction: packed,
            w_hh,
            w_hr: w_hr.as_ref(),
            zeros: self.zeros,
            form: self.form,
            batch: job.batch,
            reverse: direction == 1,
            saved,
            base,
            d_output: d_output.map(|d_output| d_output.columns(direction * size, size)),
            cuts: self.cuts(),
            deltas: pass.deltas[direction],
            d_projected: packed.w_hr.as_ref().map(|_| pass.projected[direction]),
        };
        let positions = self.positions(pass, direction);
        // SAFETY: the caller's.
        unsafe { scan.run(config.mode, *level, positions, part, carry) }
    }
}
