#![allow(unsafe_code, reason = "loads and stores take pointers")]

use crate::{Bf16, Element};

/// The operations one instruction set provides on vectors of `E`.
///
/// A value of a type that implements `Simd` is a *token*: it can only be obtained on a CPU
/// that supports the instructions, so every method without pointers is safe to call.
pub trait Simd<E: Element>: Copy + 'static {
    /// A vector of [`LANES`](Simd::LANES) elements.
    type V: Copy;

    /// Number of elements in a vector.
    const LANES: usize;

    /// Elements from one vector to the next where matrices are laid out for this instruction set: more
    /// than [`LANES`](Simd::LANES) for a token that [`low`](Simd::low) returned.
    const BLOCK: usize = Self::LANES;

    /// See [`low`](Simd::low).
    type Low: Simd<E>;

    /// The token for the first lanes alone of the same vectors, where fewer of them take less time;
    /// otherwise this one.
    fn low(self) -> Self::Low;

    /// `a` and `b` as they are, of which a compiler computes both before it goes on to what uses one of them, where it can
    /// be told to: left alone it takes chains of operations apart that are written one beside the other.
    #[inline(always)]
    fn beside(self, a: Self::V, b: Self::V) -> (Self::V, Self::V) {
        (a, b)
    }

    /// The same of a vector and one of the first lanes alone.
    #[inline(always)]
    fn beside_low(
        self,
        a: Self::V,
        b: <Self::Low as Simd<E>>::V,
    ) -> (Self::V, <Self::Low as Simd<E>>::V) {
        (a, b)
    }

    /// Number of vector registers, which bounds the tile a kernel can keep in them.
    const REGISTERS: usize;

    /// Broadcasts `x` to every lane.
    fn splat(self, x: E) -> Self::V;

    /// Loads `LANES` elements.
    ///
    /// # Safety
    /// `from` must be valid for reading `LANES` elements; it need not be aligned.
    unsafe fn load(self, from: *const E) -> Self::V;

    /// Loads `LANES` numbers that are kept as bf16.
    ///
    /// # Safety
    /// `from` must be valid for reading `LANES` of them; it need not be aligned.
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const Bf16) -> Self::V {
        let mut lanes = [E::ZERO; 16];
        for (k, lane) in lanes.iter_mut().enumerate().take(Self::LANES) {
            // SAFETY: the caller's.
            *lane = E::from_f64(f64::from(unsafe { *from.add(k) }.to_f32()));
        }
        // SAFETY: no level has more than 16 lanes.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Asks for the cache line of `from`, which need not be valid, ahead of its use; does nothing
    /// where there is no such instruction.
    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        _ = from;
    }

    /// Stores `LANES` elements.
    ///
    /// # Safety
    /// `to` must be valid for writing `LANES` elements; it need not be aligned.
    unsafe fn store(self, v: Self::V, to: *mut E);

    /// Loads `n` elements into the first lanes, `n <= LANES`; the others are zero.
    ///
    /// # Safety
    /// `from` must be valid for reading `n` elements, and `n` at most `LANES`.
    #[inline(always)]
    unsafe fn load_first(self, n: usize, from: *const E) -> Self::V {
        let mut lanes = [E::ZERO; 16];
        for (k, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: the caller's.
            *lane = unsafe { *from.add(k) };
        }
        // SAFETY: no level has more than 16 lanes.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Copies `LANES` rows of as many elements, `from_stride` elements from one to the next, to the columns of as many rows
    /// that are `to_stride` apart.
    ///
    /// # Safety
    /// The ones must be valid for reading, the others for writing, and they must not overlap.
    #[inline(always)]
    unsafe fn transpose(self, from: *const E, from_stride: usize, to: *mut E, to_stride: usize) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: the caller's.
                unsafe { *to.add(column * to_stride + row) = *from.add(row * from_stride + column) }
            }
        }
    }

    /// Stores the first `n` lanes, `n <= LANES`.
    ///
    /// # Safety
    /// `to` must be valid for writing `n` elements, and `n` at most `LANES`.
    #[inline(always)]
    unsafe fn store_first(self, v: Self::V, n: usize, to: *mut E) {
        let mut lanes = [E::ZERO; 16];
        // SAFETY: no level has more than 16 lanes; the caller vouches for `to` and `n`.
        unsafe {
            self.store(v, lanes.as_mut_ptr());
            for (k, &lane) in lanes.iter().enumerate().take(n) {
                *to.add(k) = lane;
            }
        }
    }

    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`, rounded once.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a` where `a < b`, otherwise `b`: a NaN in either gives `b`.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a` where `a > b`, otherwise `b`: a NaN in either gives `b`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `x` where `a < b`, otherwise `y`: a NaN in `a` or `b` gives `y`.
    fn select_less(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// The magnitude of `v` with its sign cleared.
    fn abs(self, v: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `b`; `a` must not be negative.
    fn with_sign(self, a: Self::V, b: Self::V) -> Self::V;
    /// `x * 2^n` for `t = ROUNDER + n` with `n` a whole number (see [`Element::ROUNDER`]) and `x`
    /// a power of two.
    ///
    /// The product must be a normal number, the next power of two above (which gives infinity) or
    /// the next one below (which gives zero).
    fn scale_rounded(self, x: Self::V, t: Self::V) -> Self::V;
}
