use core::fmt::{Debug, Display};

use crate::{Compiled, Kernel, Level, Routine};

/// The number types a layer computes in: `f32` and `f64`.
pub trait Element:
    Copy
    + Default
    + PartialEq
    + PartialOrd
    + Debug
    + Display
    + Send
    + Sync
    + bytemuck::Pod
    + core::ops::Add<Output = Self>
    + core::ops::Sub<Output = Self>
    + core::ops::Mul<Output = Self>
    + core::ops::Div<Output = Self>
    + 'static
    + sealed::Sealed
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Not a number.
    const NAN: Self;
    /// `1.5 * 2^(mantissa bits)`: adding it to a small number leaves that number, rounded to a
    /// whole one, in the low bits of the sum.
    const ROUNDER: Self;
    /// `1 / ln 2`.
    const LOG2_E: Self;
    /// `ln 2`.
    const LN2: Self;
    /// The leading bits of `ln 2`, few enough that a product with any exponent is exact.
    const LN2_HIGH: Self;
    /// `ln 2 - LN2_HIGH`.
    const LN2_LOW: Self;
    /// Coefficients of a polynomial in `r`, lowest power first, for `(e^r - 1 - r) / r^2` on `|r| <= ln(2) / 2`. Printed by
    /// `fixtures/minimax.py`.
    const EXP_TAIL: &'static [Self];
    /// `sigmoid` of minus this is taken to be zero: it is less than the smallest normal number, and the power of two next to
    /// it is the largest that is no normal number.
    const SIGMOID_LOW: Self;
    /// `sigmoid` of this rounds to one.
    const SIGMOID_HIGH: Self;
    /// `tanh` of this rounds to one.
    const TANH_HIGH: Self;
    /// Where `tanh` is about one half: the way to compute it changes there.
    const TANH_HALF: Self;
    /// PyTorch's name of the type.
    const NAME: &'static str;

    /// Whether weights of this type may be kept as [`Bf16`](crate::Bf16).
    const BF16_WEIGHTS: bool;

    /// The nearest element to `x`.
    fn from_f64(x: f64) -> Self;
    /// The same number as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// `self * a + b`, rounded once.
    fn fma(self, a: Self, b: Self) -> Self;
    /// Runs `kernel` compiled for the instruction set `level` stands for.
    fn run<K: Kernel<Self>>(level: Level, kernel: K) -> K::Output;
    /// The function `R` compiled for the instruction set `level` stands for.
    fn compiled<R: Routine<Self>>(level: Level) -> Compiled<Self, R>;
    /// Elements in one vector of `level`.
    fn lanes(level: Level) -> usize;
    /// Elements in one of the half vectors of `level`, which are whole ones where [`Simd::low`](crate::Simd::low) has
    /// no others.
    fn low_lanes(level: Level) -> usize;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! element {
    ($e:ty, $name:literal, $run:ident, $compiled:ident, $lanes:ident, $low_lanes:ident, { $($constants:item)+ }) => {
        impl Element for $e {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NAN: Self = <$e>::NAN;
            $($constants)+
            const NAME: &'static str = $name;

            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $e
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn fma(self, a: Self, b: Self) -> Self {
                self.mul_add(a, b)
            }
            fn run<K: Kernel<Self>>(level: Level, kernel: K) -> K::Output {
                level.$run(kernel)
            }
            fn compiled<R: Routine<Self>>(level: Level) -> Compiled<Self, R> {
                level.$compiled::<R>()
            }
            fn lanes(level: Level) -> usize {
                level.$lanes()
            }
            fn low_lanes(level: Level) -> usize {
                level.$low_lanes()
            }
        }
    };
}

element!(f32, "torch.float32", run_f32, compiled_f32, lanes_f32, low_lanes_f32, {
    const BF16_WEIGHTS: bool = true;
    const ROUNDER: f32 = 12_582_912.0;
    const LOG2_E: f32 = core::f32::consts::LOG2_E;
    const LN2: f32 = core::f32::consts::LN_2;
    const LN2_HIGH: f32 = 0.693_145_75;
    const LN2_LOW: f32 = 1.428_606_8e-6;
    const EXP_TAIL: &'static [f32] =
        &[0.499_999_98, 0.166_665_44, 0.041_667_2, 0.008_366_53, 0.001_388_251_5];
    const SIGMOID_LOW: f32 = 88.0;
    const SIGMOID_HIGH: f32 = 30.0;
    const TANH_HIGH: f32 = 10.0;
    const TANH_HALF: f32 = 0.55;
});

element!(f64, "torch.float64", run_f64, compiled_f64, lanes_f64, low_lanes_f64, {
    const BF16_WEIGHTS: bool = false;
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    const LOG2_E: f64 = core::f64::consts::LOG2_E;
    const LN2: f64 = core::f64::consts::LN_2;
    const LN2_HIGH: f64 = 0.693_147_180_559_890_3;
    const LN2_LOW: f64 = 5.497_923_018_708_371e-14;
    const EXP_TAIL: &'static [f64] = &[
        0.500_000_000_000_000_5,
        0.166_666_666_666_665_9,
        0.041_666_666_666_576_65,
        0.008_333_333_333_389_637,
        0.001_388_888_893_160_171_6,
        0.000_198_412_697_188_561_22,
        0.000_024_801_505_226_352_36,
        2.755_740_763_352_459e-6,
        2.762_605_781_147_48e-7,
        2.505_376_324_557_253_5e-8,
    ];
    const SIGMOID_LOW: f64 = 709.0;
    const SIGMOID_HIGH: f64 = 60.0;
    const TANH_HIGH: f64 = 22.0;
    const TANH_HALF: f64 = 0.55;
});
