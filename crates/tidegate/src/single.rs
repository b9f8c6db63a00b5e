//! One step of one row through one layer.

use core::marker::PhantomData;

use tidegate_simd::{Kernel, Level, Simd};

use crate::carry::{Carry, Scratch};
use crate::cell::Cell;
use crate::dispatch::{Dispatch, Work};
use crate::kernel::step::Step;
use crate::kernel::sums::Sums;
use crate::weights::Direction;
use crate::{Element, Mode};

/// The next step of a layer for a row alone, which needs neither rows nor chunks nor threads: for
/// small layers the arithmetic takes less time than these.
pub(crate) struct Single<'a, E> {
    /// The parameters, without projection.
    pub(crate) direction: &'a Direction<E>,
    /// The layer's input, `[I]`.
    pub(crate) x: &'a [E],
}

impl<E: Element> Single<'_, E> {
    /// Runs the step from the state in `carry`, and leaves the next one there. `scratch` must have
    /// been reserved for a step.
    #[inline(always)]
    pub(crate) fn run(
        self,
        mode: Mode,
        level: Level,
        carry: &mut Carry<E>,
        scratch: &mut Scratch<E>,
    ) {
        E::dispatch(Dispatch { mode, level, work: Work::Single(self), carry, scratch });
    }
}

/// A single step, compiled for one cell and one instruction set.
pub(crate) struct OneStep<'a, E, C> {
    pub(crate) step: Single<'a, E>,
    pub(crate) carry: &'a mut Carry<E>,
    pub(crate) scratch: &'a mut Scratch<E>,
    pub(crate) cell: PhantomData<C>,
}

impl<E: Element, C: Cell> Kernel<E> for OneStep<'_, E, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { step: Single { direction, x }, carry, scratch, .. } = self;
        let blocks = 0..direction.w_hh.blocks;
        let sums = Sums {
            w: &direction.w_ih,
            start: &direction.bias,
            x,
            x_stride: x.len(),
            out: &mut scratch.sums,
            rows: 1,
            alone: true,
            blocks: blocks.clone(),
        };
        sums.run_gates::<S, C::Gates<S::V>>(s);
        let step = Step {
            w: &direction.w_hh,
            start: &direction.bias_hh,
            sums: &scratch.sums,
            h_prev: &carry.h,
            h_stride: direction.h_stride(),
            h: &mut carry.h_next,
            c: &mut carry.c,
            rows: 1,
            alone: true,
            blocks,
            backwards: false,
            saved: core::ptr::null_mut(),
        };
        step.run::<S, C>(s);
        core::mem::swap(&mut carry.h, &mut carry.h_next);
    }
}
