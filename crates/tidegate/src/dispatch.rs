//! From a layer's mode and level to the code that was compiled for them.

use core::marker::PhantomData;

use tidegate_simd::Level;

use crate::carry::{Carry, Scratch};
use crate::cell::{Cell, Visitor, visit};
use crate::kernel::alone::{Alone, Ready, SingleStep};
use crate::kernel::stored::{Full, Half};
use crate::scan::Scan;
use crate::{Element, Mode};

/// A scan with all it needs: chooses the cell.
///
/// Public in a private module, because [`Element`] is public; nobody else can name it.
#[allow(unreachable_pub, reason = "named by a method of a public trait")]
pub struct Dispatch<'a, E> {
    pub(crate) mode: Mode,
    pub(crate) level: Level,
    pub(crate) scan: Scan<'a, E>,
    pub(crate) carry: &'a mut Carry<E>,
    pub(crate) scratch: &'a mut Scratch<E>,
}

impl<E: Element> Dispatch<'_, E> {
    /// Runs the scan.
    pub(crate) fn run(self) {
        visit(self.mode, self);
    }
}

impl<E: Element> Visitor for Dispatch<'_, E> {
    type Output = ();
    fn visit<C: Cell>(self) {
        let Self { level, scan, carry, scratch, mode: _ } = self;
        if scan.keep.is_some_and(|keep| keep.keeps_all()) {
            scan.run_steps::<C, true>(level, carry, scratch);
        } else {
            scan.run_steps::<C, false>(level, carry, scratch);
        }
    }
}

/// Runs steps of a row alone of one cell: [`Ready::run`].
///
/// What they are by reference, so that what a call has just written is not copied with wider loads than it was stored
/// with: the processor would wait for all stores before, the state of the last step among them.
pub(crate) type RunAlone<E> = unsafe fn(&Ready<E>, Level, &Alone<E>, &mut Carry<E>);

/// That of the cell of `mode`.
pub(crate) fn run_alone<E: Element>(mode: Mode) -> RunAlone<E> {
    visit(mode, AloneVisitor(PhantomData))
}

struct AloneVisitor<E>(PhantomData<E>);

impl<E: Element> Visitor for AloneVisitor<E> {
    type Output = RunAlone<E>;
    fn visit<C: Cell>(self) -> RunAlone<E> {
        Ready::run::<C>
    }
}

/// Runs one step of a row alone from the input at the pointer: [`SingleStep`].
pub(crate) type StepAlone<E> = unsafe fn(&Ready<E>, &mut Carry<E>, *const E);

/// That for `ready` with the cell of `mode` at `level`: choosing takes as long as some of a small cell's arithmetic.
pub(crate) fn step_alone<E: Element>(mode: Mode, level: Level, ready: &Ready<E>) -> StepAlone<E> {
    visit(mode, StepVisitor { level, ready })
}

struct StepVisitor<'a, E> {
    level: Level,
    ready: &'a Ready<E>,
}

impl<E: Element> Visitor for StepVisitor<'_, E> {
    type Output = StepAlone<E>;
    fn visit<C: Cell>(self) -> StepAlone<E> {
        if const { E::BF16_WEIGHTS } && self.ready.is_half() {
            E::compiled::<SingleStep<C, Half, false>>(self.level)
        } else if self.ready.in_pairs(true) {
            E::compiled::<SingleStep<C, Full, true>>(self.level)
        } else {
            E::compiled::<SingleStep<C, Full, false>>(self.level)
        }
    }
}
