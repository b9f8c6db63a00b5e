#![allow(unsafe_code, reason = "intrinsics; see the token invariant on each type")]

use core::arch::asm;
use core::arch::x86_64::*;

use crate::{Bf16, Compiled, Element, Kernel, Routine, Simd};

/// Declares a token type for a set of CPU features.
macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $label:literal, $features:literal, [$($feature:tt),+]) => {
        $(#[$doc])*
        // INVARIANT: constructed only by `detect`, so a value proves the CPU has the features.
        #[derive(Copy, Clone, Debug)]
        pub struct $name(());

        impl $name {
            pub(crate) const NAME: &'static str = $label;

            pub(crate) fn detect() -> Option<Self> {
                ($(std::arch::is_x86_feature_detected!($feature))&&+).then_some(Self(()))
            }

            pub(crate) fn vectorize<E: Element, K: Kernel<E>>(self, kernel: K) -> K::Output
            where
                Self: Simd<E>,
            {
                #[target_feature(enable = $features)]
                fn inner<E: Element, S: Simd<E>, K: Kernel<E>>(s: S, kernel: K) -> K::Output {
                    kernel.run(s)
                }
                // SAFETY: `self` proves the CPU has these features.
                unsafe { inner::<E, Self, K>(self, kernel) }
            }

            pub(crate) fn compiled<E: Element, R: Routine<E>>(self) -> Compiled<E, R>
            where
                Self: Simd<E>,
            {
                #[target_feature(enable = $features)]
                unsafe fn inner<E: Element, R: Routine<E>>(of: &R::Of, state: &mut R::State, x: *const E)
                where
                    $name: Simd<E>,
                {
                    // SAFETY: the caller's promise to the routine; the token proves what the one that gave this
                    // function away did.
                    unsafe { R::run($name(()), of, state, x) }
                }
                inner::<E, R>
            }
        }
    };
}

token!(
    /// Eight lanes of `f32`: AVX2 with FMA.
    Avx2, "avx2", "avx2,fma", ["avx2", "fma"]
);
token!(
    /// Sixteen lanes of `f32`: AVX-512 F, with VL and DQ as on every CPU since Skylake-X.
    Avx512, "avx512", "avx2,fma,avx512f,avx512vl,avx512dq",
    ["avx2", "fma", "avx512f", "avx512vl", "avx512dq"]
);

/// The lower half of [`Avx512`]'s vectors, where a processor takes half the time for half a vector.
// INVARIANT: constructed only from an `Avx512`, which proves the CPU has the features.
#[derive(Copy, Clone, Debug)]
pub struct Avx512Low(());

/// Operations that are one intrinsic of the same shape.
macro_rules! ops {
    ($v:ty; $($name:ident($($arg:ident),+) = $intrinsic:ident;)+) => {
        $(#[inline(always)]
        fn $name(self, $($arg: $v),+) -> $v {
            // SAFETY: `self` proves the CPU has the features.
            unsafe { $intrinsic($($arg),+) }
        })+
    };
}

/// The `Simd` items that are the same for every x86 level and element, named by intrinsic.
macro_rules! simd {
    ($token:ty, $e:ty, $v:ty, lanes: $lanes:literal, block: $block:literal, low: $low:ident,
     registers: $registers:literal, mantissa: $mantissa:literal, splat: $splat:ident, load: $load:ident, store: $store:ident,
     add: $add:ident, sub: $sub:ident, mul: $mul:ident, div: $div:ident, fma: $fma:ident,
     fnma: $fnma:ident, min: $min:ident, max: $max:ident, and: $and:ident, andnot: $andnot:ident,
     or: $or:ident, to_int: $to_int:ident, from_int: $from_int:ident, shl: $shl:ident,
     add_int: $add_int:ident, others: { $($others:item)+ }) => {
        impl Simd<$e> for $token {
            type V = $v;
            const LANES: usize = $lanes;
            const BLOCK: usize = $block;
            const REGISTERS: usize = $registers;
            type Low = $low;

            #[inline(always)]
            fn low(self) -> $low {
                $low(())
            }
            #[inline(always)]
            fn splat(self, x: $e) -> $v {
                // SAFETY: `self` proves the CPU has the features.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            unsafe fn load(self, from: *const $e) -> $v {
                // SAFETY: the caller vouches for the elements, `self` for the features.
                unsafe { $load(from) }
            }
            #[inline(always)]
            fn prefetch(self, from: *const u8) {
                // SAFETY: a prefetch of an address that is not valid does nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
            }
            #[inline(always)]
            unsafe fn store(self, v: $v, to: *mut $e) {
                // SAFETY: the caller vouches for the elements, `self` for the features.
                unsafe { $store(to, v) }
            }
            $(#[inline(always)]
            $others)+

            ops! { $v;
                add(a, b) = $add;
                sub(a, b) = $sub;
                mul(a, b) = $mul;
                div(a, b) = $div;
                mul_add(a, b, c) = $fma;
                neg_mul_add(a, b, c) = $fnma;
                min(a, b) = $min;
                max(a, b) = $max;
            }

            #[inline(always)]
            fn abs(self, v: $v) -> $v {
                // SAFETY: `self` proves the CPU has the features.
                unsafe { $andnot($splat(-0.0), v) }
            }
            #[inline(always)]
            fn with_sign(self, a: $v, b: $v) -> $v {
                // SAFETY: `self` proves the CPU has the features.
                unsafe { $or(a, $and($splat(-0.0), b)) }
            }
            #[inline(always)]
            fn scale_rounded(self, x: $v, t: $v) -> $v {
                // SAFETY: `self` proves the CPU has the features.
                unsafe { $from_int($add_int($shl::<$mantissa>($to_int(t)), $to_int(x))) }
            }
        }
    };
}

/// Vectors of 256 bits, of matrices laid out in blocks of so many `f32` and `f64`.
macro_rules! half_vectors {
    ($token:ident, blocks: $f32:literal, $f64:literal, registers: $registers:literal) => {
        simd!($token, f32, __m256, lanes: 8, block: $f32, low: $token, registers: $registers, mantissa: 23, splat: _mm256_set1_ps,
            load: _mm256_loadu_ps, store: _mm256_storeu_ps, add: _mm256_add_ps, sub: _mm256_sub_ps,
            mul: _mm256_mul_ps, div: _mm256_div_ps, fma: _mm256_fmadd_ps, fnma: _mm256_fnmadd_ps,
            min: _mm256_min_ps, max: _mm256_max_ps, and: _mm256_and_ps, andnot: _mm256_andnot_ps,
            or: _mm256_or_ps, to_int: _mm256_castps_si256, from_int: _mm256_castsi256_ps,
            shl: _mm256_slli_epi32, add_int: _mm256_add_epi32,
            others: {
                fn select_less(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
                    // SAFETY: `self` proves the CPU has the features.
                    unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
                }
                unsafe fn load_bf16(self, from: *const Bf16) -> __m256 {
                    // SAFETY: the caller vouches for the elements, `self` for the features.
                    unsafe {
                        let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
                    }
                }
                unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
                    // SAFETY: the caller vouches for the elements, `self` for the features.
                    unsafe { transpose_256(from, from_stride, to, to_stride) }
                }
                unsafe fn load_first(self, n: usize, from: *const f32) -> __m256 {
                    // SAFETY: a mask lane is set only below `n`, for which the caller vouches.
                    unsafe {
                        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                        _mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane))
                    }
                }
                unsafe fn store_first(self, v: __m256, n: usize, to: *mut f32) {
                    // SAFETY: a mask lane is set only below `n`, for which the caller vouches.
                    unsafe {
                        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                        _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane), v);
                    }
                }
            }
        );
        simd!($token, f64, __m256d, lanes: 4, block: $f64, low: $token, registers: $registers, mantissa: 52, splat: _mm256_set1_pd,
            load: _mm256_loadu_pd, store: _mm256_storeu_pd, add: _mm256_add_pd, sub: _mm256_sub_pd,
            mul: _mm256_mul_pd, div: _mm256_div_pd, fma: _mm256_fmadd_pd, fnma: _mm256_fnmadd_pd,
            min: _mm256_min_pd, max: _mm256_max_pd, and: _mm256_and_pd, andnot: _mm256_andnot_pd,
            or: _mm256_or_pd, to_int: _mm256_castpd_si256, from_int: _mm256_castsi256_pd,
            shl: _mm256_slli_epi64, add_int: _mm256_add_epi64,
            others: {
                fn select_less(self, a: __m256d, b: __m256d, x: __m256d, y: __m256d) -> __m256d {
                    // SAFETY: `self` proves the CPU has the features.
                    unsafe { _mm256_blendv_pd(y, x, _mm256_cmp_pd::<_CMP_LT_OQ>(a, b)) }
                }
                unsafe fn load_first(self, n: usize, from: *const f64) -> __m256d {
                    // SAFETY: a mask lane is set only below `n`, for which the caller vouches.
                    unsafe {
                        let lane = _mm256_setr_epi64x(0, 1, 2, 3);
                        _mm256_maskload_pd(from, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), lane))
                    }
                }
                unsafe fn store_first(self, v: __m256d, n: usize, to: *mut f64) {
                    // SAFETY: a mask lane is set only below `n`, for which the caller vouches.
                    unsafe {
                        let lane = _mm256_setr_epi64x(0, 1, 2, 3);
                        _mm256_maskstore_pd(to, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), lane), v);
                    }
                }
            }
        );
    };
}

half_vectors!(Avx2, blocks: 8, 4, registers: 16);
half_vectors!(Avx512Low, blocks: 16, 8, registers: 32);
simd!(Avx512, f32, __m512, lanes: 16, block: 16, low: Avx512Low, registers: 32, mantissa: 23, splat: _mm512_set1_ps,
    load: _mm512_loadu_ps, store: _mm512_storeu_ps, add: _mm512_add_ps, sub: _mm512_sub_ps,
    mul: _mm512_mul_ps, div: _mm512_div_ps, fma: _mm512_fmadd_ps, fnma: _mm512_fnmadd_ps,
    min: _mm512_min_ps, max: _mm512_max_ps, and: _mm512_and_ps, andnot: _mm512_andnot_ps,
    or: _mm512_or_ps, to_int: _mm512_castps_si512, from_int: _mm512_castsi512_ps,
    shl: _mm512_slli_epi32, add_int: _mm512_add_epi32,
    others: {
        fn beside(self, a: __m512, b: __m512) -> (__m512, __m512) {
            // SAFETY: `self` proves the CPU has the features.
            unsafe { beside_ps(a, b) }
        }
        fn beside_low(self, a: __m512, b: __m256) -> (__m512, __m256) {
            // SAFETY: `self` proves the CPU has the features.
            unsafe { beside_low_ps(a, b) }
        }
        fn select_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
            // SAFETY: `self` proves the CPU has the features.
            unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
        }
        unsafe fn load_bf16(self, from: *const Bf16) -> __m512 {
            // SAFETY: the caller vouches for the elements, `self` for the features.
            unsafe {
                let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
            }
        }
        unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            // SAFETY: the caller vouches for the elements, `self` for the features.
            unsafe { transpose_512(from, from_stride, to, to_stride) }
        }
        unsafe fn load_first(self, n: usize, from: *const f32) -> __m512 {
            // SAFETY: a mask bit is set only below `n`, for which the caller vouches.
            unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, from) }
        }
        unsafe fn store_first(self, v: __m512, n: usize, to: *mut f32) {
            // SAFETY: a mask bit is set only below `n`, for which the caller vouches.
            unsafe { _mm512_mask_storeu_ps(to, ((1u32 << n) - 1) as __mmask16, v) }
        }
    }
);
simd!(Avx512, f64, __m512d, lanes: 8, block: 8, low: Avx512Low, registers: 32, mantissa: 52, splat: _mm512_set1_pd,
    load: _mm512_loadu_pd, store: _mm512_storeu_pd, add: _mm512_add_pd, sub: _mm512_sub_pd,
    mul: _mm512_mul_pd, div: _mm512_div_pd, fma: _mm512_fmadd_pd, fnma: _mm512_fnmadd_pd,
    min: _mm512_min_pd, max: _mm512_max_pd, and: _mm512_and_pd, andnot: _mm512_andnot_pd,
    or: _mm512_or_pd, to_int: _mm512_castpd_si512, from_int: _mm512_castsi512_pd,
    shl: _mm512_slli_epi64, add_int: _mm512_add_epi64,
    others: {
        fn beside(self, a: __m512d, b: __m512d) -> (__m512d, __m512d) {
            // SAFETY: `self` proves the CPU has the features.
            unsafe { beside_pd(a, b) }
        }
        fn beside_low(self, a: __m512d, b: __m256d) -> (__m512d, __m256d) {
            // SAFETY: `self` proves the CPU has the features.
            unsafe { beside_low_pd(a, b) }
        }
        fn select_less(self, a: __m512d, b: __m512d, x: __m512d, y: __m512d) -> __m512d {
            // SAFETY: `self` proves the CPU has the features.
            unsafe { _mm512_mask_blend_pd(_mm512_cmp_pd_mask::<_CMP_LT_OQ>(a, b), y, x) }
        }
        unsafe fn load_first(self, n: usize, from: *const f64) -> __m512d {
            // SAFETY: a mask bit is set only below `n`, for which the caller vouches.
            unsafe { _mm512_maskz_loadu_pd(((1u32 << n) - 1) as __mmask8, from) }
        }
        unsafe fn store_first(self, v: __m512d, n: usize, to: *mut f64) {
            // SAFETY: a mask bit is set only below `n`, for which the caller vouches.
            unsafe { _mm512_mask_storeu_pd(to, ((1u32 << n) - 1) as __mmask8, v) }
        }
    }
);

/// Defines [`Simd::beside`] or [`Simd::beside_low`] for a vector of 512 bits and another.
macro_rules! beside {
    ($name:ident, $a:ty, $b:ty, $register:ident) => {
        #[target_feature(enable = "avx512f,avx512vl")]
        #[inline]
        fn $name(mut a: $a, mut b: $b) -> ($a, $b) {
            #[cfg(not(miri))]
            // SAFETY: there is no instruction.
            unsafe {
                asm!("/* {0} {1} */", inout(zmm_reg) a, inout($register) b,
                    options(pure, nomem, nostack, preserves_flags));
            }
            (a, b)
        }
    };
}

beside!(beside_ps, __m512, __m512, zmm_reg);
beside!(beside_pd, __m512d, __m512d, zmm_reg);
beside!(beside_low_ps, __m512, __m256, ymm_reg);
beside!(beside_low_pd, __m512d, __m256d, ymm_reg);

/// Defines [`Simd::transpose`] for a type of vectors of `f32`: four elements of every fourth row go to the quarters or halves of a
/// vector on the way from memory, which costs less than to exchange them between vectors, and four such vectors are transposed
/// quarter by quarter.
macro_rules! transpose {
    ($name:ident, $features:literal, quarters: $quarters:literal, load: |$at:ident, $quarter:ident| $load:expr,
     $unpack_low:ident, $unpack_high:ident, $unpack_low_pd:ident, $unpack_high_pd:ident, $to_pd:ident, $to_ps:ident,
     $store:ident) => {
        /// # Safety
        /// As [`Simd::transpose`].
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $name(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            // SAFETY: the caller's.
            unsafe {
                for first in (0..4 * $quarters).step_by(4) {
                    let $quarter = 4 * from_stride;
                    let rows = |k: usize| {
                        let $at = from.add(k * from_stride + first);
                        $load
                    };
                    let (a, b, c, d) = (rows(0), rows(1), rows(2), rows(3));
                    let (ab, cd) = ($to_pd($unpack_low(a, b)), $to_pd($unpack_low(c, d)));
                    let (ab_high, cd_high) =
                        ($to_pd($unpack_high(a, b)), $to_pd($unpack_high(c, d)));
                    let to = to.add(first * to_stride);
                    $store(to, $to_ps($unpack_low_pd(ab, cd)));
                    $store(to.add(to_stride), $to_ps($unpack_high_pd(ab, cd)));
                    $store(to.add(2 * to_stride), $to_ps($unpack_low_pd(ab_high, cd_high)));
                    $store(to.add(3 * to_stride), $to_ps($unpack_high_pd(ab_high, cd_high)));
                }
            }
        }
    };
}

transpose!(transpose_256, "avx2", quarters: 2,
    load: |at, quarter| _mm256_loadu2_m128(at.add(quarter), at),
    _mm256_unpacklo_ps, _mm256_unpackhi_ps, _mm256_unpacklo_pd, _mm256_unpackhi_pd, _mm256_castps_pd, _mm256_castpd_ps,
    _mm256_storeu_ps);
transpose!(transpose_512, "avx512f,avx512dq", quarters: 4,
    load: |at, quarter| {
        let first = _mm512_castps128_ps512(_mm_loadu_ps(at));
        let second = _mm512_insertf32x4::<1>(first, _mm_loadu_ps(at.add(quarter)));
        let third = _mm512_insertf32x4::<2>(second, _mm_loadu_ps(at.add(2 * quarter)));
        _mm512_insertf32x4::<3>(third, _mm_loadu_ps(at.add(3 * quarter)))
    },
    _mm512_unpacklo_ps, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpackhi_pd, _mm512_castps_pd, _mm512_castpd_ps,
    _mm512_storeu_ps);
