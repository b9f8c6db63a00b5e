//! From a layer's mode and level to the code that was compiled for them.

use core::marker::PhantomData;

use tidegate_simd::Level;

use crate::carry::{Carry, Scratch};
use crate::cell::{Cell, Visitor, visit};
use crate::scan::{Loop, Scan};
use crate::single::{OneStep, Single};
use crate::{Element, Mode};

/// What [`Dispatch`] runs.
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub(crate) enum Work<'a, E> {
    Scan(Scan<'a, E>, &'a mut Scratch<E>),
    Single(Single<'a, E>),
}

/// A scan, or a single step, with all it needs: chooses the cell, then the instruction set.
///
/// Public in a private module, because [`Element`] is public; nobody else can name it.
#[allow(unreachable_pub, reason = "named by a method of a public trait")]
pub struct Dispatch<'a, E> {
    pub(crate) mode: Mode,
    pub(crate) level: Level,
    pub(crate) work: Work<'a, E>,
    pub(crate) carry: &'a mut Carry<E>,
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
        let Self { level, work, carry, mode: _ } = self;
        let cell = PhantomData::<C>;
        match work {
            Work::Scan(scan, scratch) if scan.keep.is_some_and(|keep| keep.keeps_all()) => {
                E::run(level, Loop::<_, _, true> { scan, level, carry, scratch, cell });
            }
            Work::Scan(scan, scratch) => {
                E::run(level, Loop::<_, _, false> { scan, level, carry, scratch, cell });
            }
            Work::Single(step) => E::run(level, OneStep { step, carry, cell }),
        }
    }
}
