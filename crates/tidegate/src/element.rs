use tidegate_simd::Level;

use crate::Mode;
use crate::backward::BackWork;
use crate::dispatch::{self, Dispatch, RunAlone, StepAlone};
use crate::kernel::alone::Ready;
use crate::kernel::room::Room;
use crate::kernel::sums::Sums;

/// The number types a layer computes in: `f32` and `f64`.
///
/// Sealed: the methods are [`tidegate_simd::Element`]'s.
pub trait Element: tidegate_simd::Element {
    /// Runs a scan.
    ///
    /// Not generic in the implementations, so that the kernels are compiled once, in this crate,
    /// rather than again in every crate that uses a layer.
    #[doc(hidden)]
    fn dispatch(work: Dispatch<'_, Self>);

    /// Computes sums of products, of a matrix that is packed or has `room` for its blocks.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody else calls it")]
    fn sums(level: Level, sums: Sums<'_, Self>, room: Option<&mut Room<Self>>);

    /// What runs steps of a row alone with the cell of `mode`.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody else calls it")]
    fn run_alone(mode: Mode) -> RunAlone<Self>;

    /// What runs single steps of a row alone with the weights of `ready` and the cell of `mode` at `level`.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody else calls it")]
    fn step_alone(mode: Mode, level: Level, ready: &Ready<Self>) -> StepAlone<Self>;

    /// Runs a part of the way back.
    #[doc(hidden)]
    fn go_back(work: BackWork<'_, Self>);
}

impl Element for f32 {
    fn dispatch(work: Dispatch<'_, Self>) {
        work.run();
    }
    #[allow(private_interfaces, reason = "nobody else calls it")]
    fn sums(level: Level, sums: Sums<'_, Self>, room: Option<&mut Room<Self>>) {
        sums.run(level, room);
    }
    #[allow(private_interfaces, reason = "nobody else calls it")]
    fn run_alone(mode: Mode) -> RunAlone<Self> {
        dispatch::run_alone(mode)
    }
    #[allow(private_interfaces, reason = "nobody else calls it")]
    fn step_alone(mode: Mode, level: Level, ready: &Ready<Self>) -> StepAlone<Self> {
        dispatch::step_alone(mode, level, ready)
    }
    fn go_back(work: BackWork<'_, Self>) {
        work.run();
    }
}

impl Element for f64 {
    fn dispatch(work: Dispatch<'_, Self>) {
        work.run();
    }
    #[allow(private_interfaces, reason = "nobody else calls it")]
    fn sums(level: Level, sums: Sums<'_, Self>, room: Option<&mut Room<Self>>) {
        sums.run(level, room);
    }
    #[allow(private_interfaces, reason = "nobody else calls it")]
    fn run_alone(mode: Mode) -> RunAlone<Self> {
        dispatch::run_alone(mode)
    }
    #[allow(private_interfaces, reason = "nobody else calls it")]
    fn step_alone(mode: Mode, level: Level, ready: &Ready<Self>) -> StepAlone<Self> {
        dispatch::step_alone(mode, level, ready)
    }
    fn go_back(work: BackWork<'_, Self>) {
        work.run();
    }
}
