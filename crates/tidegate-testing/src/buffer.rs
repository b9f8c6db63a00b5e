//! Memory that shows who read it before writing, or did not write it at all.

use crate::Float;

/// `len` elements of [`Float::POISON`], for outputs and scratch before a call.
pub fn poisoned<F: Float>(len: usize) -> Vec<F> {
    vec![F::POISON; len]
}

/// Asserts that no element still holds the poison, or was computed from it.
///
/// NaN that came from the caller's own numbers has other bits and passes.
///
/// # Panics
/// If one does; the message has the name and the index.
#[track_caller]
pub fn assert_written<F: Float>(name: &str, buffer: &[F]) {
    let found = buffer.iter().position(|value| value.bits() == F::POISON.bits());
    if let Some(index) = found {
        panic!("{name}[{index}] of {} was not written, or depends on what was not", buffer.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Other processors may answer with a NaN of their own; there only what was not written is found.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn arithmetic_hands_the_poison_on() {
        let buffer = poisoned::<f32>(3);
        let computed = std::hint::black_box(buffer[0]) * 2.0 + 1.0;
        assert_eq!(computed.bits(), f32::POISON.bits());
        let computed = std::hint::black_box(f64::POISON).mul_add(3.0, 1.0);
        assert_eq!(computed.bits(), f64::POISON.bits());
    }

    #[test]
    fn other_numbers_pass() {
        assert_written("x", &[1.0f32, f32::NAN, f32::INFINITY]);
        assert_written("x", &[0.0f64 / std::hint::black_box(0.0), f64::NAN]);
    }

    #[test]
    #[should_panic(expected = "h_n[1] of 2 was not written")]
    fn what_is_left_is_named() {
        let mut buffer = poisoned::<f64>(2);
        buffer[0] = 0.0;
        assert_written("h_n", &buffer);
    }
}
