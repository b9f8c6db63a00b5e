//! A scan of a row alone with nothing to do between its steps.
#![allow(unsafe_code, reason = "passes the promise of the caller of `Scan::run` on")]

use tidegate_simd::Level;

use crate::carry::{Carry, Scratch};
use crate::kernel::alone::{Alone, Places, Ready, Source};
use crate::rows::Batch;
use crate::scan::{Scan, chunk_rows};
use crate::{Element, Mode};

/// Bytes of both weights up to which every step of a scan computes the products of its input, in the time that it would
/// wait for its activations. Larger ones are read once for many steps. 20 units of an LSTM (20 KB) took 0.69 of the
/// time of before; the figure is that of a level-1 cache less what else a step touches (Zen 4).
const WHOLE_BYTES: usize = 24 << 10;

impl<E: Element> Scan<'_, E> {
    /// Where `h` of every step goes, of a scan of a single row with nothing to do between the steps.
    pub(crate) fn row_alone(&self) -> Option<Places<E>> {
        let Batch::Equal { .. } = self.batch else { return None };
        let whole = self.blocks == (0..self.direction.w_hh.blocks) && self.direction.w_hr.is_none();
        let plain = self.reset.is_none() && self.keep.is_none() && self.member.is_none();
        if self.rows.len() != 1 || !whole || !plain || self.positions.is_empty() {
            return None;
        }
        let t = self.time(self.positions.start);
        let (first, stride, len) = self.output.steps(t, self.rows.start)?;
        Some(Places { first, stride: if self.reverse { -stride } else { stride }, len })
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
        let (ready, run) = (Ready::new(self.direction), E::run_alone(mode));
        let all = self.positions.clone();
        let inputs = match ready.bytes() <= WHOLE_BYTES {
            true => self.input.steps(self.time(all.start), self.rows.start),
            false => None,
        };
        let most = match inputs {
            Some(_) => all.len(),
            None => chunk_rows(self.direction, &self.batch, 1),
        };
        for start in all.clone().step_by(most) {
            let positions = start..(start + most).min(all.end);
            let source = match inputs {
                Some((first, stride)) => {
                    Source::Inputs { first, stride: if self.reverse { -stride } else { stride } }
                }
                None => {
                    self.input_sums(level, positions.clone(), scratch);
                    Source::Sums(scratch.sums.as_ptr())
                }
            };
            // Forwards and backwards by turns, as in any scan.
            let steps = Alone { source, output, steps: positions.len(), backwards: start % 2 == 1 };
            // SAFETY: the direction is there; the row is this scan's, and its input and output have a place for each of
            // its steps, the sums were computed for as many.
            unsafe { run(&ready, level, &steps, carry) }
            output.first = output.first.wrapping_offset(output.stride * most as isize);
        }
    }
}
