//! Steps computed again on the way back, from the checkpoints that forward has kept.
#![allow(unsafe_code, reason = "what is computed again is shared out among threads by rows")]

use core::ops::Range;

use super::{BackCall, BackTask, Pass};
use crate::cuts::Reset;
use crate::rows::{Layout, RowsIn, RowsOut};
use crate::saved::{Keep, SavedScan};
use crate::scan::{Others, Scan};
use crate::{Element, memory};

impl<E: Element> BackCall<'_, E> {
    /// Computes the steps of a pass again and keeps in `again` what forward would have saved of them: directions and rows
    /// on different threads.
    pub(super) fn compute_again(
        &self,
        pass: &Pass<'_, E>,
        again: &mut [SavedScan<E>; 2],
        tasks: &mut Vec<BackTask<E>>,
    ) {
        if pass.steps[0].is_empty() {
            return; // sequences of no steps have no checkpoints
        }
        let config = &self.stack.config;
        let (batch, directions) = (&self.job.batch, config.num_directions());
        let scans = &self.stack.directions[pass.layer * directions..];
        let keep: Vec<Keep<'_, E>> = (again.iter_mut().zip(scans).zip(&pass.steps))
            .take(directions)
            .map(|((again, packed), steps)| again.rows(packed, config, batch, steps.clone()))
            .collect();
        let parts = self.parts;
        let count = directions * parts;
        memory::lengthen(tasks, count);
        self.crew.for_each(&mut tasks[..count], |k, task| {
            let (direction, rows) = (k / parts, batch.part(k % parts, parts));
            // SAFETY: the parts have different rows or directions.
            unsafe { self.scan_again(pass, direction, rows, keep[direction], task) }
        });
    }

    /// Computes one direction again for the sequences `rows`.
    ///
    /// # Safety
    /// No other thread may run these rows of this direction at the same time.
    unsafe fn scan_again(
        &self,
        pass: &Pass<'_, E>,
        direction: usize,
        rows: Range<usize>,
        keep: Keep<'_, E>,
        task: &mut BackTask<E>,
    ) {
        let (config, saved) = (&self.stack.config, self.job.saved);
        let (batch, size) = (self.job.batch, config.output_size());
        let index = pass.layer * config.num_directions() + direction;
        let packed = &self.stack.directions[index];
        let Some(span) = saved.span(&batch) else { return };
        let (h, c) =
            saved.scans[index].checkpoint(packed, pass.steps[direction].start / span, batch.rows());
        let (stride, units) = (packed.h_stride(), packed.units());
        let (carry, scratch) = (&mut task.forward.carry, &mut task.forward.scratch);
        carry.reserve(packed, config.mode, rows.len());
        let (now, next, _) = carry.parts();
        for to in [now, next] {
            to[..rows.len() * stride].copy_from_slice(&h[rows.start * stride..rows.end * stride]);
        }
        if config.mode.has_cell_state() {
            carry.c[..rows.len() * units].copy_from_slice(&c[rows.start * units..rows.end * units]);
        }
        task.scratch.reserve(size);
        // SAFETY: all rows of the output lie in the same place; nobody reads them.
        let output =
            unsafe { RowsOut::new(&mut task.scratch[..], Layout::strided(0, 0, None), size) };
        let state = |data, size: usize| {
            // SAFETY: `keep_reset_state` has written as many.
            unsafe { RowsIn::states(data, batch.rows(), size) }
        };
        let resets_to = saved.call.is_some_and(|call| call.resets_to);
        let has_c = config.mode.has_cell_state();
        let scan = Scan {
            direction: packed,
            batch,
            rows,
            blocks: 0..packed.w_hh.blocks,
            positions: self.positions(pass, direction),
            reverse: direction == 1,
            input: self.input(pass.layer),
            others: Others::None,
            output,
            reset: self.cuts().map(|cuts| Reset {
                cuts,
                h: resets_to.then(|| state(&saved.reset_h, size)),
                c: (resets_to && has_c).then(|| state(&saved.reset_c, config.hidden_size)),
                index,
                has_c,
            }),
            keep: Some(keep),
        };
        // SAFETY: the caller's.
        unsafe { scan.run(config.mode, self.stack.level, carry, scratch) }
    }
}
