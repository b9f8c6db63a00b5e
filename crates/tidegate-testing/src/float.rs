//! The two element types.

use std::fmt::{Debug, Display};

/// An element type: `f32` or `f64`.
///
/// Its names differ from those of the library's own trait, so that a test may ask for both.
pub trait Float: Copy + PartialEq + Debug + Display + Send + Sync + 'static {
    /// The type's name as Rust writes it.
    const TYPE: &'static str;
    /// A quiet NaN whose bits no computation on ordinary numbers makes; arithmetic hands the bits on.
    const POISON: Self;

    /// The same number, exactly.
    fn widen(self) -> f64;
    /// The nearest number of this type.
    fn narrow(value: f64) -> Self;
    /// The bits, zero-extended.
    fn bits(self) -> u64;
}

impl Float for f32 {
    const TYPE: &'static str = "f32";
    const POISON: Self = f32::from_bits(0x7fc5_dead);

    fn widen(self) -> f64 {
        f64::from(self)
    }
    fn narrow(value: f64) -> Self {
        value as f32
    }
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Float for f64 {
    const TYPE: &'static str = "f64";
    const POISON: Self = f64::from_bits(0x7ffd_dead_dead_dead);

    fn widen(self) -> f64 {
        self
    }
    fn narrow(value: f64) -> Self {
        value
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}
