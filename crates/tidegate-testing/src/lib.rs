//! What the tests of all crates share.
//!
//! - [`fixtures`]: PyTorch's recorded answers and refusals
//! - [`close`]: asserts per element that name the case, the tensor, the index, what came and what was wanted
//! - [`buffer`]: memory filled with a NaN of our own, so that reading or leaving it shows
//! - [`failing`]: an allocator that fails when it is told to
//! - [`random`]: numbers that are the same in every run on every machine
//! - [`sizes`]: the sizes every test sweeps

pub mod buffer;
pub mod close;
pub mod failing;
pub mod fixtures;
mod float;
pub mod random;
pub mod sizes;

pub use float::Float;
