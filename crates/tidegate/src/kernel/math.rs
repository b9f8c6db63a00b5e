//! `sigmoid` and `tanh` from one exponential core, with the same bits at every level.
//!
//! Only additions, multiplications, fused multiply-adds and divisions, all rounded as IEEE 754
//! says and always in the same order; never the platform's library.

use tidegate_simd::{Element, Simd};

/// `e^-x = (1 - p) / 2^n` with `n` whole and `|p| < 0.42`, where `p = r - tail r^2`.
///
/// The chain of operations that leads to `tail` is the longest, so what can be done beside it is left to the caller.
struct Parts<V> {
    /// `2^n`.
    scale: V,
    /// `x - n ln 2`.
    r: V,
    /// Its square.
    r2: V,
    /// `(e^-r - 1 + r) / r^2`.
    tail: V,
}

/// The parts of `e^-x`, or of `e^-2x` if `TWICE`; `p` is precise relative to itself.
///
/// `x` must lie in `[-SIGMOID_LOW, SIGMOID_HIGH]`; if `TWICE`, in `[0, TANH_HIGH]`: `n ln 2` is rounded then, which matters
/// only to a large `n`. Or it is a NaN, which makes `r` one.
#[inline(always)]
fn exp_parts<E: Element, S: Simd<E>, const TWICE: bool>(s: S, x: S::V) -> Parts<S::V> {
    let log2_e = if TWICE { E::LOG2_E + E::LOG2_E } else { E::LOG2_E };
    // n sits in the low bits of t.
    let t = s.mul_add(x, s.splat(log2_e), s.splat(E::ROUNDER));
    let n = s.sub(t, s.splat(E::ROUNDER));
    let r = match TWICE {
        true => s.neg_mul_add(n, s.splat(E::LN2), s.add(x, x)),
        false => {
            let r = s.neg_mul_add(n, s.splat(E::LN2_HIGH), x);
            s.neg_mul_add(n, s.splat(E::LN2_LOW), r)
        }
    };
    let r2 = s.mul(r, r);
    let tail = tail::<E, S>(s, r, r2);
    Parts { scale: s.scale_rounded(s.splat(E::ONE), t), r, r2, tail }
}

/// The polynomial in `-r`: pairs of coefficients, then Horner in `r^2`, which is half as deep as Horner in `r`.
#[inline(always)]
fn tail<E: Element, S: Simd<E>>(s: S, r: S::V, r2: S::V) -> S::V {
    let c = E::EXP_TAIL;
    let mut k = c.len().next_multiple_of(2) - 2;
    let mut tail = if k + 1 < c.len() { pair::<E, S>(s, k, r) } else { s.splat(c[k]) };
    while k > 0 {
        k -= 2;
        tail = s.mul_add(tail, r2, pair::<E, S>(s, k, r));
    }
    tail
}

/// The terms from the `k`-th on, divided by its power: `c[k] - c[k + 1] r`.
#[inline(always)]
fn pair<E: Element, S: Simd<E>>(s: S, k: usize, r: S::V) -> S::V {
    s.neg_mul_add(s.splat(E::EXP_TAIL[k + 1]), r, s.splat(E::EXP_TAIL[k]))
}

/// `1 / (1 + e^-x) = 2^n / (2^n + 1 - p)`, within [`SIGMOID_ULP`] where the result is a normal number.
#[inline(always)]
pub(crate) fn sigmoid<E: Element, S: Simd<E>>(s: S, x: S::V) -> S::V {
    let one = s.splat(E::ONE);
    // A NaN survives `min` and `max` as their second argument.
    let x = s.max(s.splat(E::ZERO - E::SIGMOID_LOW), s.min(s.splat(E::SIGMOID_HIGH), x));
    let Parts { scale, r, r2, tail } = exp_parts::<E, S, false>(s, x);
    // What a small power of two loses beside one is taken from p.
    let sum = s.add(scale, one);
    let lost = s.sub(scale, s.sub(sum, one));
    let p = s.neg_mul_add(tail, r2, s.sub(r, lost));
    s.div(scale, s.sub(sum, p))
}

/// `tanh(x)`, within [`TANH_ULP`].
///
/// With `e = e^(-2|x|)`: `(1 - e) / (1 + e)` where that is below one half, else
/// `1 - 2e / (1 + e)`, whose last step rounds away what the others did wrong. Both are multiplied by `2^n`.
#[inline(always)]
pub(crate) fn tanh<E: Element, S: Simd<E>>(s: S, x: S::V) -> S::V {
    let (zero, one) = (s.splat(E::ZERO), s.splat(E::ONE));
    let two = s.splat(E::ONE + E::ONE);
    let magnitude = s.abs(x);
    let most = s.splat(E::TANH_HIGH);
    let Parts { scale, r, r2, tail } = exp_parts::<E, S, true>(s, s.min(most, magnitude));
    let p = s.neg_mul_add(tail, r2, r);
    // Of e - 1 or of 2e: chosen before p is known, which is waited for.
    let half = s.splat(E::TANH_HALF);
    let all = s.select_less(magnitude, half, s.sub(one, scale), two);
    let times = s.select_less(magnitude, half, one, two);
    let base = s.select_less(magnitude, half, zero, one);
    let numerator = s.neg_mul_add(times, p, all);
    let quotient = s.div(numerator, s.sub(s.add(scale, one), p));
    s.with_sign(s.sub(base, quotient), x)
}

/// `max(x, 0)`; a NaN stays a NaN, as in PyTorch.
#[inline(always)]
pub(crate) fn relu<E: Element, S: Simd<E>>(s: S, x: S::V) -> S::V {
    s.max(s.splat(E::ZERO), x)
}

/// Largest error of [`sigmoid`], in units in the last place; below the smallest normal number
/// the error is less than that number. See `tests` for how it is measured.
#[cfg(test)]
pub(crate) const SIGMOID_ULP: f64 = 2.0;
/// Largest error of [`tanh`], in units in the last place.
#[cfg(test)]
pub(crate) const TANH_ULP: f64 = 2.0;

#[cfg(test)]
mod tests {
    use tidegate_simd::{Kernel, Level};

    use super::*;

    #[derive(Copy, Clone, Debug)]
    enum Function {
        Sigmoid,
        Tanh,
        Relu,
    }

    /// Applies a function to `x`, whose length is a multiple of 16.
    struct Map<'a, E>(Function, &'a mut [E]);

    #[allow(unsafe_code, reason = "the kernel loads and stores through pointers")]
    impl<E: Element> Kernel<E> for Map<'_, E> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd<E>>(self, s: S) {
            for x in self.1.chunks_exact_mut(S::LANES) {
                // SAFETY: the chunk has `LANES` elements.
                unsafe {
                    let v = s.load(x.as_ptr());
                    let v = match self.0 {
                        Function::Sigmoid => sigmoid(s, v),
                        Function::Tanh => tanh(s, v),
                        Function::Relu => relu(s, v),
                    };
                    s.store(v, x.as_mut_ptr());
                }
            }
        }
    }

    fn exact(function: Function, x: f64) -> f64 {
        match function {
            Function::Sigmoid if x < 0.0 => x.exp() / (1.0 + x.exp()),
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Function::Tanh => x.tanh(),
            Function::Relu => x.max(0.0),
        }
    }

    /// The error of `got` in units in the last place of `want` as f32. Results below the
    /// smallest normal number count in units of that number: 2 there means "less than it, twice".
    fn ulps(got: f32, want: f64) -> f64 {
        let exponent = want.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
        let ulp = if want.abs() < f64::from(f32::MIN_POSITIVE) {
            f64::from(f32::MIN_POSITIVE)
        } else {
            (exponent - 23.0).exp2()
        };
        (f64::from(got) - want).abs() / ulp
    }

    /// The largest error over the f32 bit patterns `patterns` at the best level, and where.
    fn worst(function: Function, patterns: impl Iterator<Item = u32>) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        let mut inputs: Vec<f32> = patterns.map(f32::from_bits).filter(|x| !x.is_nan()).collect();
        inputs.resize(inputs.len().next_multiple_of(16), 0.0);
        let mut outputs = inputs.clone();
        f32::run(Level::best(), Map(function, &mut outputs));
        for (&x, &y) in inputs.iter().zip(&outputs) {
            let error = ulps(y, exact(function, f64::from(x)));
            if error > worst.0 || error.is_nan() {
                worst = (error, x);
            }
        }
        worst
    }

    #[test]
    fn a_dense_sample_is_within_the_bound() {
        for (function, bound) in [(Function::Sigmoid, SIGMOID_ULP), (Function::Tanh, TANH_ULP)] {
            // 509 is prime, so the sample meets every exponent and varied mantissas.
            let (error, x) = worst(function, (0..=u32::MAX).step_by(509));
            assert!(error <= bound, "{function:?}({x:e}) is off by {error} ulp");
        }
    }

    /// Prints the largest error over all inputs; NUMERICS.md records the result.
    #[test]
    #[ignore = "takes minutes: run with --release -- --ignored --nocapture"]
    fn every_f32_is_within_the_bound() {
        for (function, bound) in [(Function::Sigmoid, SIGMOID_ULP), (Function::Tanh, TANH_ULP)] {
            let mut largest = (0.0, 0.0);
            for high in 0..1u32 << 8 {
                let found = worst(function, (high << 24)..=(high << 24 | 0xff_ffff));
                if found.0 > largest.0 {
                    largest = found;
                }
            }
            println!("{function:?}: {:.3} ulp at {:e}", largest.0, largest.1);
            assert!(largest.0 <= bound, "{function:?}({:e}): {} ulp", largest.1, largest.0);
        }
    }

    /// Inputs of both types that meet every exponent, and the special ones.
    fn sample<E: Element>() -> Vec<E> {
        let mut x: Vec<f64> = (0..4000)
            .flat_map(|k| {
                let wide = (f64::from(k) * 0.37 - 740.0).exp2();
                [wide, -wide, f64::from(k) * 0.05 - 100.0, f64::from(k) * 0.0009 - 1.8]
            })
            .collect();
        x.extend([0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e38, -1e38, 1e-40]);
        x.resize(x.len().next_multiple_of(16), 0.0);
        x.into_iter().map(E::from_f64).collect()
    }

    fn bits<E: Element>(values: &[E]) -> Vec<u64> {
        // A NaN's payload may differ between instruction sets; that it is one may not.
        let canonical = |v: f64| if v.is_nan() { f64::NAN } else { v };
        values.iter().map(|v| canonical(v.to_f64()).to_bits()).collect()
    }

    fn levels_agree<E: Element>() {
        for function in [Function::Sigmoid, Function::Tanh, Function::Relu] {
            let run = |level| {
                let mut x = sample::<E>();
                E::run(level, Map(function, &mut x));
                bits(&x)
            };
            let levels = Level::available();
            let want = run(*levels.last().unwrap());
            for level in levels {
                assert_eq!(run(level), want, "{function:?} at level {}", level.name());
            }
        }
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        levels_agree::<f32>();
        levels_agree::<f64>();
    }

    #[test]
    fn f64_is_close_to_the_library() {
        for function in [Function::Sigmoid, Function::Tanh] {
            let x = sample::<f64>();
            let mut y = x.clone();
            f64::run(Level::best(), Map(function, &mut y));
            for (&x, &y) in x.iter().zip(&y) {
                let want = exact(function, x);
                let close = (y - want).abs() <= 4.0 * f64::EPSILON * want.abs() + f64::MIN_POSITIVE;
                assert!(close || (y.is_nan() && x.is_nan()), "{function:?}({x:e}) = {y:e}");
            }
        }
    }

    #[test]
    fn special_values() {
        let mut x = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, -1e30, 1e30];
        let mut padded = [0.0; 16];
        padded[..8].copy_from_slice(&x);
        f32::run(Level::best(), Map(Function::Tanh, &mut padded));
        x[2..4].copy_from_slice(&[1.0, -1.0]);
        x[6..].copy_from_slice(&[-1.0, 1.0]);
        assert_eq!(bits(&padded[..8]), bits(&x));
        let mut padded = [f32::INFINITY, f32::NEG_INFINITY, 0.0, -1e30, 1e30, f32::NAN]
            .into_iter()
            .chain([0.0; 10])
            .collect::<Vec<_>>();
        f32::run(Level::best(), Map(Function::Sigmoid, &mut padded));
        assert_eq!(bits(&padded[..6]), bits(&[1.0, 0.0, 0.5, 0.0, 1.0, f32::NAN]));
    }
}
