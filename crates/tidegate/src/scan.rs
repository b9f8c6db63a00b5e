//! One layer in one direction over a sequence: the input product, then the time loop.

use core::ops::Range;

use tidegate_simd::Level;

use crate::batch::Batch;
use crate::carry::{Carry, Scratch};
use crate::cell::Cell;
use crate::cuts::Reset;
use crate::dispatch::Dispatch;
use crate::exchange::Member;
use crate::kernel::step::Step;
use crate::kernel::sums::Sums;
use crate::pace::Pace;
use crate::rows::{RowsIn, RowsOut};
use crate::saved::{Keep, Steps};
use crate::weights::Direction;
use crate::{Element, Mode};

/// Most rows of a chunk: at least one step's.
pub(crate) fn chunk_rows<E: Element>(
    direction: &Direction<E>,
    batch: &Batch<'_>,
    rows: usize,
) -> usize {
    direction.chunk_rows.min(batch.steps().saturating_mul(rows)).max(rows)
}

/// The other threads that run a part of the same batch at the same time.
#[derive(Copy, Clone)]
pub(crate) enum Others<'a, E> {
    /// None that this one waits for.
    None,
    /// They run other units: this is the member that runs the scan's.
    Units(Member<'a, E>),
    /// They run other layers.
    Layers(Pace<'a, E>),
}

impl<E: Element> Others<'_, E> {
    /// The blocks of units that are not for them, of `blocks` in all.
    pub(crate) fn blocks(&self, blocks: usize) -> Range<usize> {
        match self {
            Self::Units(member) => member.blocks(blocks),
            Self::None | Self::Layers(_) => 0..blocks,
        }
    }

    /// Most steps to compute before others are told, of `steps`.
    pub(crate) fn most_steps(&self, steps: usize) -> usize {
        if let Self::Layers(pace) = self { pace.part().min(steps) } else { steps }
    }

    /// Waits until the input of the first `steps` steps can be read.
    pub(crate) fn wait_for_input(&self, steps: usize) {
        if let Self::Layers(pace) = self {
            pace.follow(steps);
        }
    }

    /// Says that the output of the first `steps` steps can be read.
    pub(crate) fn announce_output(&self, steps: usize) {
        if let Self::Layers(pace) = self {
            pace.lead(steps);
        }
    }
}

/// One layer in one direction over (some rows of) a batch of sequences.
pub(crate) struct Scan<'a, E> {
    /// The parameters.
    pub(crate) direction: &'a Direction<E>,
    /// Which sequences are alive when.
    pub(crate) batch: Batch<'a>,
    /// The sequences of the batch to compute.
    pub(crate) rows: Range<usize>,
    /// The blocks of units to compute: all, unless others compute the rest.
    pub(crate) blocks: Range<usize>,
    /// The steps to compute, counted in the order of computation.
    pub(crate) positions: Range<usize>,
    /// Whether to begin with the last step.
    pub(crate) reverse: bool,
    /// The layer's input.
    pub(crate) input: RowsIn<'a, E>,
    /// The other threads.
    pub(crate) others: Others<'a, E>,
    /// Where `h` of every step goes, the columns of `blocks`.
    pub(crate) output: RowsOut<'a, E>,
    /// Where states are replaced, if anywhere.
    pub(crate) reset: Option<Reset<'a, E>>,
    /// Where what backward needs goes, in training.
    pub(crate) keep: Option<Keep<'a, E>>,
}

impl<E: Element> Scan<'_, E> {
    /// Runs the scan from the state in `carry`, and leaves the final state there.
    ///
    /// Where others compute other blocks of the same rows, of `c` only this scan's blocks are right at the end, of `h` all.
    ///
    /// # Safety
    /// No other thread may access this scan's rows and units of the output at the same time, but for the layer above once
    /// it has been told that it may read them.
    #[allow(unsafe_code, reason = "the output is shared out among threads by rows")]
    pub(crate) unsafe fn run(
        self,
        mode: Mode,
        level: Level,
        carry: &mut Carry<E>,
        scratch: &mut Scratch<E>,
    ) {
        scratch.reserve(self.direction, &self.batch, self.rows.len());
        match self.row_alone() {
            // SAFETY: the caller's.
            Some(output) => unsafe { self.run_alone(mode, level, output, carry, scratch) },
            None => E::dispatch(Dispatch { mode, level, scan: self, carry, scratch }),
        }
    }
}

impl<E: Element> Scan<'_, E> {
    /// The time loop of cell `C`, in training to `KEEP` what backward needs.
    pub(crate) fn run_steps<C: Cell, const KEEP: bool>(
        &self,
        level: Level,
        carry: &mut Carry<E>,
        scratch: &mut Scratch<E>,
    ) {
        let most = chunk_rows(self.direction, &self.batch, self.rows.len());
        let most_steps = self.others.most_steps(self.positions.len());
        let mut done = self.positions.start;
        while done < self.positions.end {
            let end = self.chunk_end(done, most).min(done + most_steps);
            self.others.wait_for_input(end);
            self.input_sums(level, done..end, scratch);
            let mut row = 0;
            for position in done..end {
                row += self.step::<C, KEEP>(level, position, row, carry, scratch);
            }
            self.others.announce_output(end);
            done = end;
        }
    }

    /// The step at `position` in the order of computation.
    #[inline(always)]
    pub(crate) fn time(&self, position: usize) -> usize {
        if self.reverse { self.batch.steps() - 1 - position } else { position }
    }

    /// Number of rows of this scan alive at the step at `position`.
    #[inline(always)]
    fn alive(&self, position: usize) -> usize {
        let alive = self.batch.rows_at(self.time(position));
        alive.clamp(self.rows.start, self.rows.end) - self.rows.start
    }

    /// Whether `rows` rows are the only one of a scan of one; one that remains of several is not
    /// alone, or the first such batch would have the weights laid out anew in the middle of a call.
    #[inline(always)]
    fn is_alone(&self, rows: usize) -> bool {
        rows == 1 && self.rows.len() == 1
    }

    /// The end of the chunk of steps that begins at `start` and has at most `most` rows.
    #[inline(always)]
    fn chunk_end(&self, start: usize, most: usize) -> usize {
        let mut rows = self.alive(start);
        let mut end = start + 1;
        while end < self.positions.end && rows + self.alive(end) <= most {
            rows += self.alive(end);
            end += 1;
        }
        end
    }

    /// Computes the input half of the gate sums of the steps at `positions`.
    pub(crate) fn input_sums(
        &self,
        level: Level,
        positions: Range<usize>,
        scratch: &mut Scratch<E>,
    ) {
        let inputs = self.direction.w_ih.inputs;
        let rows = positions.clone().map(|position| self.alive(position)).sum();
        let x = match self.input_in_one_piece(positions.clone(), rows) {
            Some(x) => x,
            None => {
                self.gather(positions, &mut scratch.x);
                &scratch.x[..]
            }
        };
        let sums = Sums {
            w: &self.direction.w_ih,
            start: &self.direction.bias,
            x,
            x_stride: inputs,
            out: &mut scratch.sums,
            rows,
            alone: self.is_alone(rows),
            blocks: self.blocks.clone(),
        };
        E::sums(level, sums, Some(&mut scratch.room));
    }

    /// The input rows of the steps at `positions`, `rows` of them, if they lie one after the other in the order of computation.
    fn input_in_one_piece(&self, positions: Range<usize>, rows: usize) -> Option<&[E]> {
        if self.reverse && positions.len() > 1 {
            return None;
        }
        let first = self.time(positions.start);
        let steps = first..first + positions.len();
        self.input.in_one_piece(&self.batch, steps, self.rows.clone(), rows)
    }

    /// Copies the input rows of the steps at `positions` one after the other.
    fn gather(&self, positions: Range<usize>, x: &mut [E]) {
        let inputs = self.direction.w_ih.inputs;
        let mut rows = 0;
        for position in positions {
            let t = self.time(position);
            for b in 0..self.alive(position) {
                self.input.read(t, self.rows.start + b, &mut x[rows * inputs..]);
                rows += 1;
            }
        }
    }

    /// Runs the step at `position`, whose gate sums begin at row `row`; returns its row count.
    #[allow(unsafe_code, reason = "the output is shared out among threads by rows")]
    fn step<C: Cell, const KEEP: bool>(
        &self,
        level: Level,
        position: usize,
        row: usize,
        carry: &mut Carry<E>,
        scratch: &mut Scratch<E>,
    ) -> usize {
        let direction = self.direction;
        let (rows, stride) = (self.alive(position), direction.h_stride());
        let t = self.time(position);
        if let Some(reset) = &self.reset {
            let rows = self.rows.start..self.rows.start + rows;
            reset.apply(carry, direction, t, rows, self.reverse);
        }
        // SAFETY: the rows and units are this scan's; the caller of `run` vouches for them.
        let saved = match &self.keep {
            // SAFETY: the caller's.
            Some(keep) => unsafe { self.keep_step(keep, t, rows, carry) },
            None => core::ptr::null_mut(),
        };
        let (h_prev, h_next, c) = carry.parts();
        let step = Step {
            w: &direction.w_hh,
            start: &direction.bias_hh,
            sums: &scratch.sums[row * direction.w_hh.width()..],
            h_prev,
            h_stride: stride,
            h: match direction.w_hr {
                Some(_) => &mut scratch.unprojected[..],
                None => &mut h_next[..],
            },
            c,
            rows,
            alone: self.is_alone(rows),
            blocks: self.blocks.clone(),
            // Forwards and backwards by turns, so that a step begins with the weights that the
            // one before it read last.
            backwards: position % 2 == 1,
            saved,
        };
        // SAFETY: what is kept of a step's rows lies row by row, as the kernel writes it.
        unsafe { step.run::<C, KEEP>(level, &mut scratch.room) }
        if let Some((w_hr, zeros)) = &direction.w_hr {
            let project = Sums {
                w: w_hr,
                start: zeros,
                x: &scratch.unprojected,
                x_stride: direction.units(),
                out: &mut *h_next,
                rows,
                alone: self.is_alone(rows),
                blocks: 0..w_hr.blocks,
            };
            E::sums(level, project, Some(&mut scratch.room));
        }
        if let Some(Keep { steps: Steps::All { unprojected: Some(unprojected), .. }, .. }) =
            &self.keep
        {
            for b in 0..rows {
                let h = &scratch.unprojected[b * direction.units()..];
                // SAFETY: as below.
                unsafe { unprojected.write(t, self.rows.start + b, h) }
            }
        }
        let first = self.blocks.start * direction.w_hh.lanes;
        for b in 0..rows {
            let h = &h_next[b * stride + first..];
            // SAFETY: the rows and units are this scan's; the caller of `run` vouches for them.
            unsafe { self.output.write(t, self.rows.start + b, h) }
        }
        if let Others::Units(member) = self.others {
            let lanes = direction.w_hh.lanes;
            member.share(h_next, stride, rows, direction.w_hh.blocks, lanes);
        }
        if position + 1 < self.batch.steps() {
            // Rows that end here keep their state in both buffers.
            let ended = self.alive(position + 1).min(rows) * stride..rows * stride;
            h_prev[ended.clone()].copy_from_slice(&h_next[ended]);
        }
        carry.turn();
        rows
    }
    /// Keeps the states that enter step `t` if they are wanted; returns where the cell's values of its `rows` go, if
    /// anywhere.
    ///
    /// # Safety
    /// As [`keep_states`](Self::keep_states).
    #[allow(unsafe_code, reason = "passes the caller's promise on")]
    unsafe fn keep_step(
        &self,
        keep: &Keep<'_, E>,
        t: usize,
        rows: usize,
        carry: &Carry<E>,
    ) -> *mut E {
        // SAFETY: the caller's.
        unsafe {
            match &keep.steps {
                Steps::All { gates, .. } => {
                    self.keep_states(keep, t, rows, carry);
                    return gates.place(t, self.rows.start);
                }
                Steps::Every { span } => {
                    let is_first = match self.reverse {
                        false => t.is_multiple_of(*span),
                        true => t + 1 == self.batch.steps() || (t + 1).is_multiple_of(*span),
                    };
                    if is_first {
                        self.keep_states(keep, t / span, self.rows.len(), carry);
                    }
                }
            }
        }
        core::ptr::null_mut()
    }

    /// Writes the states of the first `rows` rows in `carry` where backward looks for them, this scan's units of them.
    ///
    /// # Safety
    /// No other thread may access these rows and units at the same time.
    #[allow(unsafe_code, reason = "passes the caller's promise on")]
    unsafe fn keep_states(&self, keep: &Keep<'_, E>, t: usize, rows: usize, carry: &Carry<E>) {
        let (direction, lanes) = (self.direction, self.direction.w_hh.lanes);
        let units = self.blocks.start * lanes..self.blocks.end * lanes;
        let h_units =
            if direction.w_hr.is_some() { 0..direction.h_stride() } else { units.clone() };
        for at in 0..rows {
            let b = self.rows.start + at;
            let h = &carry.h()[at * direction.h_stride() + h_units.start..];
            // SAFETY: the caller's.
            unsafe {
                keep.h.columns(h_units.start, h_units.len()).write(t, b, h);
                if let Some(c) = keep.c {
                    let from = &carry.c[at * direction.units() + units.start..];
                    c.columns(units.start, units.len()).write(t, b, from);
                }
            }
        }
    }
}
