//! One step of one row through one layer.

use core::marker::PhantomData;

use tidegate_simd::{Kernel, Level, Simd};

use crate::carry::Carry;
use crate::cell::Cell;
use crate::dispatch::{Dispatch, Work};
use crate::kernel::step::{Input, Step};
use crate::weights::Direction;
use crate::{Element, Mode};

/// The next step of a layer for a row alone, which needs neither rows nor chunks nor threads: for
/// small layers the arithmetic takes less time than these.
pub(crate) struct Single<'a, E> {
    /// The parameters, without projection.
    pub(crate) direction: &'a Direction<E>,
    /// The layer's input, `[I]`.
    pub(crate) x: &'a [E],
    /// Whether to begin with the last units: by turns, so that a step begins with the weights that
    /// the one before it read last.
    pub(crate) backwards: bool,
}

impl<E: Element> Single<'_, E> {
    /// Runs the step from the state in `carry`, and leaves the next one there.
    #[inline(always)]
    pub(crate) fn run(self, mode: Mode, level: Level, carry: &mut Carry<E>) {
        E::dispatch(Dispatch { mode, level, work: Work::Single(self), carry });
    }
}

/// A single step, compiled for one cell and one instruction set.
pub(crate) struct OneStep<'a, E, C> {
    pub(crate) step: Single<'a, E>,
    pub(crate) carry: &'a mut Carry<E>,
    pub(crate) cell: PhantomData<C>,
}

impl<E: Element, C: Cell> Kernel<E> for OneStep<'_, E, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { step: Single { direction, x, backwards }, carry, cell: _ } = self;
        let step = Step {
            w: &direction.w_hh,
            start: &direction.bias_hh,
            sums: &[],
            h_prev: &carry.h,
            h_stride: direction.h_stride(),
            h: &mut carry.h_next,
            c: &mut carry.c,
            rows: 1,
            alone: true,
            blocks: 0..direction.w_hh.blocks,
            backwards,
            saved: core::ptr::null_mut(),
        };
        step.run_from::<S, C>(s, Input { w: &direction.w_ih, start: &direction.bias, x });
        core::mem::swap(&mut carry.h, &mut carry.h_next);
    }
}
