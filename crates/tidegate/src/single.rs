//! A row alone with nothing to do between its steps: a scan of it, or the next step of a stream.
#![allow(unsafe_code, reason = "the kernel reads and writes rows through pointers")]

use std::sync::Arc;

use tidegate_simd::Level;

use crate::batch::Batch;
use crate::carry::{Carry, Scratch};
use crate::dispatch::StepAlone;
use crate::kernel::alone::{Alone, Places, Ready, Source};
use crate::scan::{Others, Scan, chunk_rows};
use crate::stack::Stack;
use crate::{Element, Mode, memory};

/// Bytes of both weights up to which every step of a scan computes the products of the next one's input, in the time that it
/// would wait for its activations. Larger ones are read once for many steps. 20 units of an LSTM (20 KB) took 0.69 of the
/// time of before; the figure is that of a level-1 cache less what else a step touches (Zen 4).
const WHOLE_BYTES: usize = 24 << 10;

impl<E: Element> Scan<'_, E> {
    /// Where `h` of every step goes, of a scan of a single row with nothing to do between the steps.
    pub(crate) fn row_alone(&self) -> Option<Places<E>> {
        let Batch::Equal { .. } = self.batch else { return None };
        let whole = self.blocks == (0..self.direction.w_hh.blocks) && self.direction.w_hr.is_none();
        let packed = !self.direction.w_ih.is_given() && !self.direction.w_hh.is_given();
        let plain =
            self.reset.is_none() && self.keep.is_none() && !matches!(self.others, Others::Units(_));
        if self.rows.len() != 1 || !whole || !packed || !plain || self.positions.is_empty() {
            return None;
        }
        let t = self.time(self.positions.start);
        let (first, stride, len) = self.output.steps(t, self.rows.start)?;
        Some(Places { first, stride: self.onwards(stride), len })
    }

    /// Elements to the next computed step's row, of `stride` to that of the next in time.
    fn onwards(&self, stride: isize) -> isize {
        if self.reverse { -stride } else { stride }
    }

    /// Runs the scan of a [`row_alone`](Self::row_alone).
    ///
    /// # Safety
    /// As [`Scan::run`].
    pub(crate) unsafe fn run_alone(
        &self,
        mode: Mode,
        level: Level,
        mut output: Places<E>,
        carry: &mut Carry<E>,
        scratch: &mut Scratch<E>,
    ) {
        let ready = Ready::new(self.direction);
        let all = self.positions.clone();
        let inputs = match ready.bytes() <= WHOLE_BYTES || all.len() == 1 {
            true => self.input.steps(self.time(all.start), self.rows.start),
            false => None,
        };
        if let (Some((x, _)), 1) = (inputs, all.len()) {
            self.others.wait_for_input(all.end);
            // SAFETY: the direction is there; the row is this scan's, and its input and output have a place.
            unsafe {
                E::step_alone(mode, level, &ready)(&ready, carry, x);
                let h = &carry.h()[..output.len];
                core::ptr::copy_nonoverlapping(h.as_ptr(), output.first, h.len());
            }
            self.others.announce_output(all.end);
            return;
        }
        let run = E::run_alone(mode);
        // Calls one after the other with the same workspace take turns as the steps of a call do.
        let turned = carry.turned();
        let most = match inputs {
            Some(_) => all.len(),
            None => chunk_rows(self.direction, &self.batch, 1),
        };
        let most = self.others.most_steps(most);
        for start in all.clone().step_by(most) {
            let positions = start..(start + most).min(all.end);
            self.others.wait_for_input(positions.end);
            let source = match inputs {
                Some((first, stride)) => {
                    let stride = self.onwards(stride);
                    let first = first.wrapping_offset(stride * (start - all.start) as isize);
                    self.input_sums(level, start..start + 1, scratch);
                    Source::Inputs { first, stride, sums: scratch.sums.as_mut_ptr() }
                }
                None => {
                    self.input_sums(level, positions.clone(), scratch);
                    Source::Sums(scratch.sums.as_ptr())
                }
            };
            // Forwards and backwards by turns, as in any scan.
            let backwards = (start % 2 == 1) != turned;
            let steps = Alone { source, output, steps: positions.len(), backwards };
            // SAFETY: the direction is there; the row is this scan's, and its input and output have a place for each of
            // its steps, the sums were computed for as many.
            unsafe { run(&ready, level, &steps, carry) }
            output.first = output.first.wrapping_offset(output.stride * most as isize);
            self.others.announce_output(positions.end);
        }
    }
}

/// The layers of a stream of one sequence without projection, ready for single steps on one thread.
#[derive(Clone, Debug)]
pub(crate) struct SingleSteps<E> {
    // INVARIANT: made of the directions of `_stack`, whose parameters are not replaced while somebody else has it.
    /// A layer each, and what runs a step of it.
    layers: Vec<(Ready<E>, StepAlone<E>)>,
    _stack: Arc<Stack<E>>,
}

impl<E: Element> SingleSteps<E> {
    /// Those of a stream of `batch` sequences, if it can have them. Only inside of [`memory::or_error`].
    pub(crate) fn new(stack: &Arc<Stack<E>>, batch: usize) -> Option<Self> {
        if batch != 1 || stack.config.proj_size > 0 {
            return None;
        }
        let mut layers = memory::with_capacity(stack.directions.len());
        layers.extend(stack.directions.iter().map(|direction| {
            let ready = Ready::new(direction);
            let run = E::step_alone(stack.config.mode, stack.level, &ready);
            (ready, run)
        }));
        Some(Self { layers, _stack: stack.clone() })
    }

    /// Runs the step from the input `x: [I]` and the states in `carries`, one a layer; returns the last layer's `h: [H]`.
    #[inline]
    pub(crate) fn run<'a>(&self, x: &[E], carries: &'a mut [Carry<E>]) -> &'a [E] {
        let (mut x, mut h) = (x, &[][..]);
        for ((ready, run), carry) in self.layers.iter().zip(carries) {
            assert!(x.len() == ready.inputs());
            // SAFETY: the invariant; the input is there.
            unsafe { run(ready, carry, x.as_ptr()) }
            h = &carry.h()[..ready.units()];
            x = h;
        }
        h
    }
}
