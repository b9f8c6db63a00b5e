//! Vectors of `f32` and `f64` for every supported instruction set, behind one trait.
//!
//! This is the only crate that names CPU intrinsics. A kernel is written once, generic over
//! [`Simd`], and [`Element::run`] compiles and runs it for the instruction set that a [`Level`]
//! stands for. Every operation here rounds as IEEE 754 says, so a kernel that keeps the order of
//! its operations gives the same bits at every level.

mod bf16;
#[cfg(test)]
mod compare;
mod element;
mod level;
#[cfg(target_arch = "aarch64")]
mod neon;
mod processor;
mod scalar;
mod several;
mod simd;
mod uneven;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use bf16::Bf16;
pub use element::Element;
pub use level::{Compiled, Kernel, Level, Routine};
pub use processor::{Prefetch, Sharing, meeting, prefetch, sharing, tile_bytes};
pub use several::{Several, SideBySide};
pub use simd::Simd;
pub use uneven::Uneven;
