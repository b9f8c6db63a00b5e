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
    + bytemuck::Zeroable
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
    /// The leading bits of `ln 2`, few enough that a product with any exponent is exact.
    const LN2_HIGH: Self;
    /// `ln 2 - LN2_HIGH`.
    const LN2_LOW: Self;
    /// Coefficients of a polynomial in `r`, lowest power first, an even number of them, for
    /// `(e^r - 1 - r) / r^2` on `|r| <= ln(2) / 2`. Printed by `fixtures/minimax.py`.
    const EXP_TAIL: &'static [Self];
    /// `e^-EXP_LOW` is the smallest power of `e` to compute: normal, and nothing beside one.
    const EXP_LOW: Self;
    /// `e^EXP_HIGH` is the largest power of `e` to compute: it overflows to infinity.
    const EXP_HIGH: Self;
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
    const LN2_HIGH: f32 = 0.693_145_75;
    const LN2_LOW: f32 = 1.428_606_8e-6;
    const EXP_TAIL: &'static [f32] =
        &[0.5, 0.166_666_67, 0.041_666_465, 0.008_333_311, 0.001_393_366_3, 0.000_198_910_05];
    const EXP_LOW: f32 = 87.0;
    const EXP_HIGH: f32 = 89.0;
    const TANH_HIGH: f32 = 10.0;
    const TANH_HALF: f32 = 0.55;
});

element!(f64, "torch.float64", run_f64, compiled_f64, lanes_f64, low_lanes_f64, {
    const BF16_WEIGHTS: bool = false;
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    const LOG2_E: f64 = core::f64::consts::LOG2_E;
    const LN2_HIGH: f64 = 0.693_147_180_559_890_3;
    const LN2_LOW: f64 = 5.497_923_018_708_371e-14;
    const EXP_TAIL: &'static [f64] = &[
        0.5,
        0.166_666_666_666_666_67,
        0.041_666_666_666_666_68,
        0.008_333_333_333_333_334,
        0.001_388_888_888_887_906_3,
        0.000_198_412_698_412_632_92,
        0.000_024_801_587_336_472_404,
        2.755_731_924_723_883_7e-6,
        2.755_726_324_680_897e-7,
        2.505_207_107_277_858e-8,
        2.091_814_967_780_597_4e-9,
        1.608_663_591_513_152_6e-10,
    ];
    const EXP_LOW: f64 = 708.0;
    const EXP_HIGH: f64 = 710.0;
    const TANH_HIGH: f64 = 22.0;
    const TANH_HALF: f64 = 0.55;
});
