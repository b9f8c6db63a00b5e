//! What the machine can do: arithmetic, reading, activations, and talk between cores.
#![allow(unsafe_code, reason = "vector loads and stores take pointers")]

use core::hint::{black_box, spin_loop};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidegate::Level;
use tidegate_simd::{Element, Kernel, Simd};

/// Independent chains: enough to hide a latency of 4 or 5 cycles at two a cycle, and few enough for
/// 16 registers with two operands.
const CHAINS: usize = 12;

/// See [`wake`].
const WAKING: Duration = Duration::from_micros(1500);

/// Rounds of which the best counts.
const ROUNDS: usize = 15;

/// `f32` in a vector of `level`.
pub(crate) fn lanes(level: Level) -> usize {
    f32::lanes(level)
}

/// Fused multiply-adds of `f32` per second.
pub(crate) fn multiply_adds(level: Level) -> f64 {
    let turns = 200_000;
    let seconds = best(|| {
        black_box(f32::run(level, Multiply { turns }));
    });
    (turns * CHAINS * lanes(level)) as f64 / seconds
}

/// The same of a tenth of a millisecond, just now and not at its best, once the core is [awake](wake).
pub(crate) fn multiply_adds_now(level: Level) -> f64 {
    wake(level);
    let turns = 40_000;
    let start = Instant::now();
    black_box(f32::run(level, Multiply { turns }));
    (turns * CHAINS * lanes(level)) as f64 / start.elapsed().as_secs_f64()
}

/// Multiplies for as long as a core needs to do so at full speed after it has done something else: an Ice Lake's multiplies
/// vectors of 64 bytes at a quarter of it for up to 0.4 ms, then at two thirds for 0.2 ms.
fn wake(level: Level) {
    let start = Instant::now();
    while start.elapsed() < WAKING {
        black_box(f32::run(level, Multiply { turns: 1000 }));
    }
}

/// Bytes per second read from a buffer of `bytes` that is read over and over.
pub(crate) fn read(level: Level, bytes: usize) -> f64 {
    let memory = vec![1.0f32; bytes / 4 + LINE];
    let start = memory.as_ptr().align_offset(4 * LINE).min(LINE);
    let data = &memory[start..start + bytes / 4];
    let block = CHAINS * lanes(level);
    let passes = ((4 << 20) / bytes).max(1);
    let seconds = best(|| {
        black_box(f32::run(level, Read { data: black_box(data), passes }));
    });
    (data.len() / block * block * 4 * passes) as f64 / seconds
}

/// Seconds for one vector of sigmoids, in a loop over many independent ones.
pub(crate) fn activation(level: Level) -> f64 {
    let mut data: Vec<f32> = (0..1024).map(|k| k as f32 / 512.0 - 1.0).collect();
    let passes = 100;
    let seconds = best(|| f32::run(level, Squash { data: black_box(&mut data), passes }));
    seconds * lanes(level) as f64 / (passes * 1024) as f64
}

/// Seconds until another thread sees what one wrote: half a round trip. On a machine of one core
/// zero, as nothing is shared out there.
pub(crate) fn hop() -> f64 {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return 0.0;
    }
    const TRIPS: usize = 2000;
    let (ping, pong) = (Line::default(), Line::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for trip in 1..=TRIPS * ROUNDS {
                wait(&ping, trip);
                pong.0.store(trip, Ordering::Release);
            }
        });
        let mut trip = 0;
        best(|| {
            for _ in 0..TRIPS {
                trip += 1;
                ping.0.store(trip, Ordering::Release);
                wait(&pong, trip);
            }
        }) / (2 * TRIPS) as f64
    })
}

/// A flag with cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicUsize);

fn wait(line: &Line, value: usize) {
    let mut turns = 0u32;
    while line.0.load(Ordering::Acquire) != value {
        turns += 1;
        // The other thread may want this core.
        if turns.is_multiple_of(1 << 14) { std::thread::yield_now() } else { spin_loop() }
    }
}

/// Shortest of [`ROUNDS`] calls, in seconds.
fn best(mut f: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(time).fold(f64::INFINITY, f64::min)
}

/// `f32` in 64 bytes, the largest vector: loads of aligned ones touch one cache line.
const LINE: usize = 16;

/// Multiply-adds in registers.
struct Multiply {
    turns: usize,
}

impl Kernel<f32> for Multiply {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, s: S) -> f32 {
        let (half, one) = (s.splat(black_box(0.5)), s.splat(black_box(1.0)));
        let mut sums = [one; CHAINS];
        for _ in 0..self.turns {
            for sum in &mut sums {
                *sum = s.mul_add(*sum, half, one);
            }
        }
        total(s, sums)
    }
}

/// Multiply-adds with one operand from memory, as in the product of a vector and a matrix.
struct Read<'a> {
    data: &'a [f32],
    passes: usize,
}

impl Kernel<f32> for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, s: S) -> f32 {
        let half = s.splat(black_box(0.5));
        let mut sums = [half; CHAINS];
        for _ in 0..self.passes {
            for block in black_box(self.data).chunks_exact(CHAINS * S::LANES) {
                for (k, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: a block has CHAINS vectors, and k < CHAINS.
                    let v = unsafe { s.load(block.as_ptr().add(k * S::LANES)) };
                    *sum = s.mul_add(v, half, *sum);
                }
            }
        }
        total(s, sums)
    }
}

/// Sigmoids in place: an exponential of five coefficients, a scaling by a power of two and a
/// division.
struct Squash<'a> {
    data: &'a mut [f32],
    passes: usize,
}

impl Kernel<f32> for Squash<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, s: S) {
        for _ in 0..self.passes {
            for vector in self.data.chunks_exact_mut(S::LANES) {
                // SAFETY: the chunk has exactly one vector.
                unsafe {
                    let x = s.load(vector.as_ptr());
                    s.store(sigmoid(s, x), vector.as_mut_ptr());
                }
            }
        }
    }
}

/// The operations that a sigmoid cannot do without, without care for its last bits.
#[inline(always)]
fn sigmoid<S: Simd<f32>>(s: S, x: S::V) -> S::V {
    let x = s.max(s.splat(-f32::SIGMOID_LOW), s.min(s.splat(f32::SIGMOID_HIGH), x));
    let t = s.mul_add(x, s.splat(f32::LOG2_E), s.splat(f32::ROUNDER));
    let n = s.sub(t, s.splat(f32::ROUNDER));
    // Of -r, whose sign the multiply-adds take care of.
    let r = s.neg_mul_add(n, s.splat(f32::LN2_HIGH), x);
    let r = s.neg_mul_add(n, s.splat(f32::LN2_LOW), r);
    let mut q = s.splat(0.0);
    for (k, &coefficient) in f32::EXP_TAIL.iter().enumerate().rev() {
        let signed = s.splat(if k % 2 == 0 { coefficient } else { -coefficient });
        q = if k + 1 == f32::EXP_TAIL.len() { signed } else { s.mul_add(q, r, signed) };
    }
    let p = s.neg_mul_add(s.mul(q, r), r, r);
    let power = s.scale_rounded(s.splat(1.0), t);
    s.div(power, s.sub(s.add(power, s.splat(1.0)), p))
}

/// The sum of all lanes of all vectors, so that none of them can be left out.
#[inline(always)]
fn total<S: Simd<f32>>(s: S, sums: [S::V; CHAINS]) -> f32 {
    let all = sums.into_iter().reduce(|a, b| s.add(a, b)).expect("there are chains");
    let mut lanes = [0.0; LINE];
    // SAFETY: no level has more than 16 lanes.
    unsafe { s.store(all, lanes.as_mut_ptr()) };
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_computes_the_sigmoid() {
        for level in Level::available() {
            let mut data: Vec<f32> = (0..64).map(|k| k as f32 - 32.0).collect();
            f32::run(level, Squash { data: &mut data, passes: 1 });
            for (k, &y) in data.iter().enumerate() {
                let x = k as f64 - 32.0;
                let expected = 1.0 / (1.0 + (-x).exp());
                assert!((f64::from(y) / expected - 1.0).abs() < 1e-5, "{} {x}", level.name());
            }
        }
    }

    #[test]
    fn reading_reads_every_block() {
        for level in Level::available() {
            let data = vec![1.0; 4 * CHAINS * lanes(level)];
            let sum = f32::run(level, Read { data: &data, passes: 2 });
            // One half in each chain to begin with, and one half for each number read.
            let expected = 0.5 * (CHAINS * lanes(level) + 2 * data.len()) as f32;
            assert_eq!(sum, expected, "{}", level.name());
        }
    }
}
