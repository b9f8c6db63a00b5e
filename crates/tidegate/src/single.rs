//! A row alone through one layer: one step, or those of a scan.
#![allow(unsafe_code, reason = "the kernel reads and writes rows through pointers")]

use core::marker::PhantomData;

use tidegate_simd::{Kernel, Level, Simd};

use crate::Element;
use crate::carry::{Carry, Scratch};
use crate::cell::Cell;
use crate::kernel::alone::{Alone, Places, Ready, Source};
use crate::rows::Batch;
use crate::scan::{Scan, chunk_rows};

/// Bytes of both weights up to which every step of a scan computes the products of its input, in the time that it would
/// wait for its activations. Larger ones are read once for many steps. 20 units of an LSTM (20 KB) took 0.69 of the
/// time of before; the figure is that of a level-1 cache less what else a step touches (Zen 4).
const WHOLE_BYTES: usize = 24 << 10;

/// The next step of a layer for a row alone, which needs neither rows nor chunks nor threads: for
/// small layers the arithmetic takes less time than these.
///
/// Public in a private module, because [`Element`] is public; nobody else can name it.
#[allow(unreachable_pub, reason = "named by a method of a public trait")]
pub struct Single<'a, E> {
    // INVARIANT: the direction that it was made of is there as it was.
    ready: &'a Ready<E>,
    x: &'a [E],
    output: &'a mut [E],
    backwards: bool,
}

impl<'a, E: Element> Single<'a, E> {
    /// A step from the input `x: [I]`; `h` goes to `output: [H]` beside the carry, or nowhere if that is empty.
    ///
    /// Steps begin with the last units by turns, so that one begins with the weights that the one before it read last.
    ///
    /// # Safety
    /// The direction that `ready` was made of must be there as it was.
    #[inline(always)]
    pub(crate) unsafe fn new(
        ready: &'a Ready<E>,
        x: &'a [E],
        output: &'a mut [E],
        backwards: bool,
    ) -> Self {
        assert!(x.len() == ready.inputs());
        Self { ready, x, output, backwards }
    }
}

/// A single step, compiled for one cell and one instruction set.
pub(crate) struct OneStep<'a, 'b, E, C> {
    pub(crate) step: &'a mut Single<'b, E>,
    pub(crate) carry: &'a mut Carry<E>,
    pub(crate) cell: PhantomData<C>,
}

impl<E: Element, C: Cell> Kernel<E> for OneStep<'_, '_, E, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { step: Single { ready, x, output, backwards }, carry, cell: _ } = self;
        let steps = Alone {
            source: Source::Inputs { first: x.as_ptr(), stride: 0 },
            output: Places { first: output.as_mut_ptr(), stride: 0, len: output.len() },
            steps: 1,
            backwards: *backwards,
        };
        // SAFETY: the invariant; the input is as long as the weights want it, the output as long as it says.
        unsafe { ready.run::<S, C>(s, steps, carry) }
    }
}

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
    #[inline(always)]
    pub(crate) unsafe fn run_alone<S: Simd<E>, C: Cell>(
        &self,
        s: S,
        level: Level,
        mut output: Places<E>,
        carry: &mut Carry<E>,
        scratch: &mut Scratch<E>,
    ) {
        let (ready, all) = (Ready::new(self.direction), self.positions.clone());
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
            unsafe { ready.run::<S, C>(s, steps, carry) }
            output.first = output.first.wrapping_offset(output.stride * most as isize);
        }
    }
}
