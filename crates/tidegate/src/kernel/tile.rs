//! What kernels share: products of packed weights with the rows of a tile.
//!
//! The accumulators of a tile of `R` rows by `N` blocks of units stay in registers. Every output is a sum of [`CHAINS`] chains of fused multiply-adds over fixed parts of the inputs, in
//! a fixed order. A tile of many rows runs the chains one after the other, a tile of one row side
//! by side, which hides the latency of a multiply-add: the tiles change no bit.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(
    clippy::needless_range_loop,
    reason = "rows, blocks and gates index several lists at once"
)]

use core::mem::MaybeUninit;
use core::ops::Range;

use tidegate_simd::{Element, Simd};

use super::ahead::{LINE_BYTES, Share};
use super::chains::{CHAINS, Division};
use super::stored::Stored;
use crate::cell::List;

/// How far ahead weights are asked for.
const AHEAD_BYTES: usize = 4096;

/// Where `R` rows from `row` on begin.
///
/// # Safety
/// The rows must exist.
#[inline(always)]
pub(super) unsafe fn rows_at<E, const R: usize>(
    data: *const E,
    stride: usize,
    row: usize,
) -> [*const E; R] {
    let mut at = [data; R];
    for r in 0..R {
        // SAFETY: the caller's.
        at[r] = unsafe { at[r].add((row + r) * stride) };
    }
    at
}

/// Sums of the products of all inputs, `[row][block][gate]`: of [`CHAINS`] chains, of which `Q` are computed side by side;
/// with the inputs of one after the other comes the `share` of what is asked for.
///
/// # Safety
/// `w[n]` must be readable for `inputs * G * BLOCK` elements, `x[r]` for `inputs`, which are what is divided.
#[inline(always)]
pub(super) unsafe fn multiply<
    E,
    S,
    L,
    W,
    const R: usize,
    const N: usize,
    const Q: usize,
    const AHEAD: bool,
>(
    s: S,
    w: [*const W::Item; N],
    x: [*const E; R],
    division: Division,
    mut share: Share,
) -> [[L; N]; R]
where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
    W: Stored<E>,
{
    if division.length == 0 {
        let mut total = [[L::all(s.splat(E::ZERO)); N]; R];
        for k in 0..division.undivided {
            // SAFETY: `k < inputs`; the caller vouches for the rest.
            unsafe { multiply_one::<E, S, L, W, R, N, Q, AHEAD>(s, w, k, x, k, &mut total) }
        }
        return total;
    }
    // Neighbouring chains are added up in pairs, then the pairs.
    // SAFETY: the caller's, and all these chains exist.
    unsafe {
        if const { Q == CHAINS } {
            let sums = chains::<E, S, L, W, R, N, Q, AHEAD>(s, w, x, division, 0);
            return add(s, add(s, sums[0], sums[1]), add(s, sums[2], sums[3]));
        }
        if const { Q == 2 } {
            let low = chains::<E, S, L, W, R, N, Q, AHEAD>(s, w, x, division, 0);
            let low = add(s, low[0], low[1]);
            let high = chains::<E, S, L, W, R, N, Q, AHEAD>(s, w, x, division, 2);
            return add(s, low, add(s, high[0], high[1]));
        }
        // Not initialised, since zeros would be written to memory for every tile.
        let mut pairs = [const { MaybeUninit::<[[L; N]; R]>::uninit() }; CHAINS / 2];
        let (mut chain, mut first) = (0, 0);
        loop {
            let end = first + division.inputs(chain);
            let sum = one_chain::<E, S, L, W, R, N>(s, w, x, first..end, &mut share);
            first = end;
            // The even chain of a pair has written what the odd one reads; the last one stays in registers.
            if chain + 1 == CHAINS {
                let last = add(s, pairs[CHAINS / 2 - 1].assume_init(), sum);
                return add(s, pairs[0].assume_init(), last);
            }
            let pair = &mut pairs[chain / 2];
            pair.write(if chain % 2 == 0 { sum } else { add(s, pair.assume_init(), sum) });
            chain += 1;
        }
    }
}

/// How many inputs a turn of a loop over inputs takes: a few, as what a turn does beside the products of one takes a twentieth
/// of their time (Granite Rapids), if the registers hold all `sums` and the `operands` of one. Otherwise compilers keep sums
/// in memory, which takes a fifth longer.
pub(super) const fn inputs_of_turn(sums: usize, operands: usize, registers: usize) -> usize {
    if sums + operands <= registers { 4 } else { 1 }
}

/// Sums of the products of the chain of `inputs`; with all but the last few comes the `share` of what is asked for.
///
/// # Safety
/// As [`multiply`]; the inputs must exist.
#[inline(always)]
unsafe fn one_chain<E, S, L, W, const R: usize, const N: usize>(
    s: S,
    w: [*const W::Item; N],
    x: [*const E; R],
    inputs: Range<usize>,
    share: &mut Share,
) -> [[L; N]; R]
where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
    W: Stored<E>,
{
    let mut acc = [[L::all(s.splat(E::ZERO)); N]; R];
    // An input of each row, a weight, and what the weight is made from.
    let turn = const {
        let operands = R + 1 + (size_of::<W::Item>() < size_of::<E>()) as usize;
        inputs_of_turn(R * N * L::LEN, operands, S::REGISTERS)
    };
    let mut k = inputs.start;
    // SAFETY: `k` is one of the inputs; the caller vouches for the rest.
    unsafe {
        for _ in 0..inputs.len() / turn {
            share.ask(s, turn);
            for j in 0..turn {
                multiply_one::<E, S, L, W, R, N, 1, false>(s, w, k + j, x, k + j, &mut acc);
            }
            k += turn;
        }
        for _ in 0..inputs.len() % turn {
            multiply_one::<E, S, L, W, R, N, 1, false>(s, w, k, x, k, &mut acc);
            k += 1;
        }
    }
    acc
}

/// Sums of the products of chains `first..first + Q`, side by side.
///
/// # Safety
/// As [`multiply`]; the chains must exist.
#[inline(always)]
unsafe fn chains<E, S, L, W, const R: usize, const N: usize, const Q: usize, const AHEAD: bool>(
    s: S,
    w: [*const W::Item; N],
    x: [*const E; R],
    division: Division,
    first: usize,
) -> [[[L; N]; R]; Q]
where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
    W: Stored<E>,
{
    let mut acc = [[[L::all(s.splat(E::ZERO)); N]; R]; Q];
    for k in 0..division.length {
        for c in 0..Q {
            let chain = first + c;
            // SAFETY: `k` is below the chain's length; the caller vouches for the rest.
            unsafe {
                let (at, k) = (division.position(chain, k), division.start(chain) + k);
                multiply_one::<E, S, L, W, R, N, Q, AHEAD>(s, w, at, x, k, &mut acc[c]);
            }
        }
    }
    for c in 0..Q {
        let (chain, last) = (first + c, division.length);
        if chain < division.longer {
            // SAFETY: as above; this chain has one input more.
            unsafe {
                let (at, k) = (division.position(chain, last), division.start(chain) + last);
                multiply_one::<E, S, L, W, R, N, Q, AHEAD>(s, w, at, x, k, &mut acc[c]);
            }
        }
    }
    acc
}

/// `a + b`, element by element.
#[inline(always)]
pub(super) fn add<E, S, L, const R: usize, const N: usize>(
    s: S,
    a: [[L; N]; R],
    mut b: [[L; N]; R],
) -> [[L; N]; R]
where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
{
    for r in 0..R {
        for n in 0..N {
            for gate in 0..L::LEN {
                let b = &mut b[r][n].as_mut()[gate];
                *b = s.add(a[r][n].as_ref()[gate], *b);
            }
        }
    }
    b
}

/// `acc[row][block][gate] += w[block][at][gate] * x[row][k]` for one `k`, whose weights are the
/// `at`-th.
///
/// # Safety
/// As [`multiply`], with `k < inputs` and `at < inputs`.
#[inline(always)]
unsafe fn multiply_one<
    E,
    S,
    L,
    W,
    const R: usize,
    const N: usize,
    const Q: usize,
    const AHEAD: bool,
>(
    s: S,
    w: [*const W::Item; N],
    at: usize,
    x: [*const E; R],
    k: usize,
    acc: &mut [[L; N]; R],
) where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
    W: Stored<E>,
{
    // As packed: for chains side by side, the vectors of a block of half vectors are halves.
    let stride = if Q > 1 && L::LEN > 1 { S::LANES } else { S::BLOCK };
    for n in 0..N {
        for gate in 0..L::LEN {
            let from = w[n].wrapping_add((at * L::LEN + gate) * stride);
            if AHEAD && (gate * stride * size_of::<W::Item>()).is_multiple_of(LINE_BYTES) {
                s.prefetch(from.wrapping_byte_add(AHEAD_BYTES).cast());
            }
            // SAFETY: the caller's.
            let w = unsafe { W::load(s, from) };
            for r in 0..R {
                // SAFETY: the caller's.
                let x = s.splat(unsafe { *x[r].add(k) });
                let sum = &mut acc[r][n].as_mut()[gate];
                *sum = s.mul_add(x, w, *sum);
            }
        }
    }
}
