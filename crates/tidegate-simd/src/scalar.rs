#![allow(unsafe_code, reason = "the traits' functions take pointers")]

use crate::{Compiled, Element, Kernel, Routine, Simd};

/// One lane, no special instructions. Runs everywhere; every other level is tested against it.
#[derive(Copy, Clone, Debug)]
pub struct Scalar(());

impl Scalar {
    pub(crate) const NAME: &'static str = "scalar";

    pub(crate) fn detect() -> Option<Self> {
        Some(Self(()))
    }

    pub(crate) fn vectorize<E: Element, K: Kernel<E>>(self, kernel: K) -> K::Output
    where
        Self: Simd<E>,
    {
        kernel.run(self)
    }

    pub(crate) fn compiled<E: Element, R: Routine<E>>(self) -> Compiled<E, R>
    where
        Self: Simd<E>,
    {
        unsafe fn inner<E: Element, R: Routine<E>>(of: &R::Of, state: &mut R::State, x: *const E)
        where
            Scalar: Simd<E>,
        {
            // SAFETY: the caller's promise to the routine.
            unsafe { R::run(Scalar(()), of, state, x) }
        }
        inner::<E, R>
    }
}

macro_rules! scalar {
    ($e:ty, $mantissa:literal) => {
        impl Simd<$e> for Scalar {
            type V = $e;
            const LANES: usize = 1;
            const REGISTERS: usize = 16;
            type Low = Self;

            #[inline(always)]
            fn low(self) -> Self {
                self
            }
            #[inline(always)]
            fn splat(self, x: $e) -> $e {
                x
            }
            #[inline(always)]
            unsafe fn load(self, from: *const $e) -> $e {
                // SAFETY: the caller vouches for one element.
                unsafe { *from }
            }
            #[inline(always)]
            unsafe fn store(self, v: $e, to: *mut $e) {
                // SAFETY: the caller vouches for one element.
                unsafe { *to = v }
            }
            #[inline(always)]
            fn add(self, a: $e, b: $e) -> $e {
                a + b
            }
            #[inline(always)]
            fn sub(self, a: $e, b: $e) -> $e {
                a - b
            }
            #[inline(always)]
            fn mul(self, a: $e, b: $e) -> $e {
                a * b
            }
            #[inline(always)]
            fn div(self, a: $e, b: $e) -> $e {
                a / b
            }
            #[inline(always)]
            fn mul_add(self, a: $e, b: $e, c: $e) -> $e {
                a.mul_add(b, c)
            }
            #[inline(always)]
            fn neg_mul_add(self, a: $e, b: $e, c: $e) -> $e {
                (-a).mul_add(b, c)
            }
            #[inline(always)]
            fn min(self, a: $e, b: $e) -> $e {
                if a < b { a } else { b }
            }
            #[inline(always)]
            fn max(self, a: $e, b: $e) -> $e {
                if a > b { a } else { b }
            }
            #[inline(always)]
            fn select_less(self, a: $e, b: $e, x: $e, y: $e) -> $e {
                if a < b { x } else { y }
            }
            #[inline(always)]
            fn abs(self, v: $e) -> $e {
                v.abs()
            }
            #[inline(always)]
            fn with_sign(self, a: $e, b: $e) -> $e {
                a.copysign(b)
            }
            #[inline(always)]
            fn scale_rounded(self, x: $e, t: $e) -> $e {
                <$e>::from_bits((t.to_bits() << $mantissa).wrapping_add(x.to_bits()))
            }
        }
    };
}

scalar!(f32, 23);
scalar!(f64, 52);
