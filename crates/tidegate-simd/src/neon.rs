#![allow(unsafe_code, reason = "intrinsics; see the token invariant on the type")]

use core::arch::aarch64::*;

use crate::{Bf16, Compiled, Element, Kernel, Routine, Simd};

/// Four lanes of `f32`: NEON, which every AArch64 CPU has.
// INVARIANT: constructed only by `detect`, so a value proves the CPU has the feature.
#[derive(Copy, Clone, Debug)]
pub struct Neon(());

impl Neon {
    pub(crate) const NAME: &'static str = "neon";

    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    pub(crate) fn vectorize<E: Element, K: Kernel<E>>(self, kernel: K) -> K::Output
    where
        Self: Simd<E>,
    {
        #[target_feature(enable = "neon")]
        fn inner<E: Element, S: Simd<E>, K: Kernel<E>>(s: S, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: `self` proves the CPU has the feature.
        unsafe { inner::<E, Self, K>(self, kernel) }
    }

    pub(crate) fn compiled<E: Element, R: Routine<E>>(self) -> Compiled<E, R>
    where
        Self: Simd<E>,
    {
        #[target_feature(enable = "neon")]
        unsafe fn inner<E: Element, R: Routine<E>>(of: &R::Of, state: &mut R::State, x: *const E)
        where
            Neon: Simd<E>,
        {
            // SAFETY: the caller's promise to the routine; the token proves what the one that gave this function away
            // did.
            unsafe { R::run(Neon(()), of, state, x) }
        }
        inner::<E, R>
    }
}

/// The `Simd` items for one element type, named by intrinsic.
macro_rules! simd {
    ($e:ty, $v:ty, lanes: $lanes:literal, mantissa: $mantissa:literal, splat: $splat:ident,
     load: $load:ident, store: $store:ident, add: $add:ident, sub: $sub:ident, mul: $mul:ident,
     div: $div:ident, fma: $fma:ident, fms: $fms:ident, less: $less:ident, more: $more:ident,
     select: $select:ident, abs: $abs:ident, sign: $sign:expr, to_int: $to_int:ident,
     from_int: $from_int:ident, shl: $shl:ident, add_int: $add_int:ident, others: { $($others:item)* }) => {
        impl Simd<$e> for Neon {
            type V = $v;
            const LANES: usize = $lanes;
            const REGISTERS: usize = 32;
            type Low = Self;

            #[inline(always)]
            fn low(self) -> Self {
                self
            }
            #[inline(always)]
            fn splat(self, x: $e) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            unsafe fn load(self, from: *const $e) -> $v {
                // SAFETY: the caller vouches for the elements, `self` for the feature.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(self, v: $v, to: *mut $e) {
                // SAFETY: the caller vouches for the elements, `self` for the feature.
                unsafe { $store(to, v) }
            }
            $(#[inline(always)]
            $others)*
            #[inline(always)]
            fn add(self, a: $v, b: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            fn sub(self, a: $v, b: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $sub(a, b) }
            }
            #[inline(always)]
            fn mul(self, a: $v, b: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            fn div(self, a: $v, b: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $div(a, b) }
            }
            #[inline(always)]
            fn mul_add(self, a: $v, b: $v, c: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $fma(c, a, b) }
            }
            #[inline(always)]
            fn neg_mul_add(self, a: $v, b: $v, c: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $fms(c, a, b) }
            }
            #[inline(always)]
            fn min(self, a: $v, b: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $select($less(a, b), a, b) }
            }
            #[inline(always)]
            fn max(self, a: $v, b: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $select($more(a, b), a, b) }
            }
            #[inline(always)]
            fn select_less(self, a: $v, b: $v, x: $v, y: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $select($less(a, b), x, y) }
            }
            #[inline(always)]
            fn abs(self, v: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $abs(v) }
            }
            #[inline(always)]
            fn with_sign(self, a: $v, b: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $select($sign, b, a) }
            }
            #[inline(always)]
            fn scale_rounded(self, x: $v, t: $v) -> $v {
                // SAFETY: `self` proves the CPU has the feature.
                unsafe { $from_int($add_int($shl::<$mantissa>($to_int(t)), $to_int(x))) }
            }
        }
    };
}

simd!(f32, float32x4_t, lanes: 4, mantissa: 23, splat: vdupq_n_f32, load: vld1q_f32,
    store: vst1q_f32, add: vaddq_f32, sub: vsubq_f32, mul: vmulq_f32, div: vdivq_f32,
    fma: vfmaq_f32, fms: vfmsq_f32, less: vcltq_f32, more: vcgtq_f32, select: vbslq_f32,
    abs: vabsq_f32, sign: vdupq_n_u32(1 << 31), to_int: vreinterpretq_u32_f32,
    from_int: vreinterpretq_f32_u32, shl: vshlq_n_u32, add_int: vaddq_u32,
    others: {
        unsafe fn load_bf16(self, from: *const Bf16) -> float32x4_t {
            // SAFETY: the caller vouches for the elements, `self` for the feature.
            unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast()))) }
        }
    }
);
simd!(f64, float64x2_t, lanes: 2, mantissa: 52, splat: vdupq_n_f64, load: vld1q_f64,
    store: vst1q_f64, add: vaddq_f64, sub: vsubq_f64, mul: vmulq_f64, div: vdivq_f64,
    fma: vfmaq_f64, fms: vfmsq_f64, less: vcltq_f64, more: vcgtq_f64, select: vbslq_f64,
    abs: vabsq_f64, sign: vdupq_n_u64(1 << 63), to_int: vreinterpretq_u64_f64,
    from_int: vreinterpretq_f64_u64, shl: vshlq_n_u64, add_int: vaddq_u64, others: {});
