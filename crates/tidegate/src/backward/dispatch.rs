//! From the parts of the way back to the code that was compiled for them.

use super::products::{InputGradient, WeightGradient};
use super::scan::ScanWork;
use crate::Element;
use crate::kernel::outer::Panels;

/// A part of the way back.
///
/// Public in a private module, because [`Element`] is public; nobody else can name it.
#[allow(unreachable_pub, reason = "named by a method of a public trait")]
pub enum BackWork<'a, E> {
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody else can name it")]
    Scan(ScanWork<'a, E>),
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody else can name it")]
    Weights(WeightGradient<'a, E>, &'a mut Vec<Panels<E>>),
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody else can name it")]
    Input(InputGradient<'a, E>),
}

impl<E: Element> BackWork<'_, E> {
    /// Does it.
    pub(crate) fn run(self) {
        match self {
            Self::Scan(work) => work.run(),
            Self::Weights(work, panels) => work.run(panels),
            Self::Input(work) => work.run(),
        }
    }
}
