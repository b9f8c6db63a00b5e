//! What the two kernels share: products of packed weights with the rows of a tile.
//!
//! A kernel walks tiles of `R` rows by `N` blocks of units whose accumulators stay in registers. Every
//! output is a sum of [`CHAINS`] chains of fused multiply-adds over fixed parts of the inputs, in
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

use super::chains::{CHAINS, Division};
use super::pack::Packed;
use super::stored::Stored;
use crate::cell::List;

/// The work on one tile of `R` rows and `N` blocks.
pub(super) trait Tile {
    /// Number of gates, each a vector of one row and block.
    const GATES: usize;
    /// Number of vector registers.
    const REGISTERS: usize;

    /// Does the work on the tile that begins at `row` and `block`, with `Q` chains side by side.
    ///
    /// # Safety
    /// Rows `row..row + R` and blocks `block..block + N` must exist.
    unsafe fn run<const R: usize, const N: usize, const Q: usize>(
        &mut self,
        row: usize,
        block: usize,
    );
}

/// Blocks side by side in a tile of one row.
const fn side_of_one(gates: usize, registers: usize) -> usize {
    match (gates, registers > 16) {
        (1, true) => 4,
        (1, false) => 2,
        _ => 1,
    }
}

/// Chains side by side in a tile of one row: all, unless their accumulators do not fit.
const fn chains_of_one(gates: usize, registers: usize) -> usize {
    if gates == 4 && registers <= 16 { 2 } else { CHAINS }
}

/// Blocks side by side in a tile of several rows.
const fn side_of_many(gates: usize, registers: usize) -> usize {
    match (gates, registers > 16) {
        (4, _) | (3, false) => 1,
        (3, true) => 2,
        _ => 4,
    }
}

/// Most rows of a tile of `vectors` vectors a row: the accumulators take up to 24 of 32 registers,
/// or 12 of 16.
const fn most_rows(vectors: usize, registers: usize) -> usize {
    let most = if registers > 16 { 24 / vectors } else { 12 / vectors };
    if most > 6 { 6 } else { most }
}

/// Runs `tile` over all `rows` of `blocks`; `backwards` takes the last blocks first. A row may be
/// `alone` if there is one; its chains run side by side then.
///
/// Weights that have just been read are still in the cache when the next step begins with them.
///
/// # Safety
/// `tile` must accept every row below `rows` and every block of `blocks`.
#[inline(always)]
pub(super) unsafe fn walk<T: Tile>(
    tile: &mut T,
    rows: usize,
    alone: bool,
    blocks: Range<usize>,
    backwards: bool,
) {
    debug_assert!(rows == 1 || !alone);
    // Two loops, so that neither computes beforehand what only the other needs.
    if alone {
        let side = const { side_of_one(T::GATES, T::REGISTERS) };
        for (side, block) in groups(blocks, side, backwards) {
            // SAFETY: the caller's; the groups are parts of the blocks.
            unsafe {
                match side {
                    4 if const { side_of_one(T::GATES, T::REGISTERS) == 4 } => {
                        single_row::<T, 4>(tile, block);
                    }
                    2 if const { side_of_one(T::GATES, T::REGISTERS) == 2 } => {
                        single_row::<T, 2>(tile, block);
                    }
                    _ => single_row::<T, 1>(tile, block),
                }
            }
        }
    } else {
        let side = const { side_of_many(T::GATES, T::REGISTERS) };
        for (side, block) in groups(blocks, side, backwards) {
            // SAFETY: the caller's; the groups are parts of the blocks.
            unsafe {
                match side {
                    4 if const { side_of_many(T::GATES, T::REGISTERS) == 4 } => {
                        column::<T, 4>(tile, rows, block);
                    }
                    2 if const { side_of_many(T::GATES, T::REGISTERS) == 2 } => {
                        column::<T, 2>(tile, rows, block);
                    }
                    _ => column::<T, 1>(tile, rows, block),
                }
            }
        }
    }
}

/// `blocks` in groups of `side` neighbours, then one by one: how many, and the first of them.
#[inline(always)]
fn groups(
    blocks: Range<usize>,
    side: usize,
    backwards: bool,
) -> impl Iterator<Item = (usize, usize)> {
    let groups = blocks.len() / side;
    let count = groups + blocks.len() % side;
    (0..count).map(
        #[inline(always)]
        move |index| {
            let index = if backwards { count - 1 - index } else { index };
            let (side, block) = if index < groups {
                (side, index * side)
            } else {
                (1, groups * side + index - groups)
            };
            (side, blocks.start + block)
        },
    )
}

/// Runs `tile` over the only row of `N` blocks.
///
/// # Safety
/// As [`walk`], for `block..block + N`.
#[inline(always)]
unsafe fn single_row<T: Tile, const N: usize>(tile: &mut T, block: usize) {
    // SAFETY: the caller's.
    unsafe {
        if const { chains_of_one(T::GATES, T::REGISTERS) == 2 } {
            tile.run::<1, N, 2>(0, block);
        } else {
            tile.run::<1, N, CHAINS>(0, block);
        }
    }
}

/// Runs `tile` over all `rows` of `N` blocks.
///
/// # Safety
/// As [`walk`], for `block..block + N`.
#[inline(always)]
unsafe fn column<T: Tile, const N: usize>(tile: &mut T, rows: usize, block: usize) {
    let most = const { most_rows(T::GATES * N, T::REGISTERS) };
    let mut row = 0;
    while row < rows {
        // Rows left over are spread over the tiles: 7 rows are 4 and 3, not 6 and 1.
        let left = rows - row;
        let take = left.div_ceil(left.div_ceil(most));
        // SAFETY: `take <= left`, so the rows exist; the caller vouches for the blocks.
        unsafe {
            match take {
                6 if const { most_rows(T::GATES * N, T::REGISTERS) >= 6 } => {
                    tile.run::<6, N, 1>(row, block);
                }
                5 if const { most_rows(T::GATES * N, T::REGISTERS) >= 5 } => {
                    tile.run::<5, N, 1>(row, block);
                }
                4 if const { most_rows(T::GATES * N, T::REGISTERS) >= 4 } => {
                    tile.run::<4, N, 1>(row, block);
                }
                3 if const { most_rows(T::GATES * N, T::REGISTERS) >= 3 } => {
                    tile.run::<3, N, 1>(row, block);
                }
                2 => tile.run::<2, N, 1>(row, block),
                _ => tile.run::<1, N, 1>(row, block),
            }
        }
        row += take;
    }
}

/// A packed matrix by value: what a tile needs of it stays in registers.
#[derive(Copy, Clone)]
pub(super) struct Matrix<T> {
    data: *const T,
    /// Number of inputs.
    pub(super) inputs: usize,
    /// Number of blocks of units.
    pub(super) blocks: usize,
}

impl<T: Copy> Matrix<T> {
    /// The matrix `w`, which must be packed for `L`'s gates and `S`'s vectors and kept as `W` says,
    /// for a row `alone` or for several.
    #[inline(always)]
    pub(super) fn new<E, S, L, W>(w: &Packed<E>, alone: bool) -> Self
    where
        E: Element,
        S: Simd<E>,
        L: List<S::V>,
        W: Stored<E, Item = T>,
    {
        assert_eq!((w.gates, w.lanes), (L::LEN, S::LANES));
        let data = w.for_rows::<W>(alone);
        assert_eq!(data.len(), w.len());
        Self { data: data.as_ptr(), inputs: w.inputs, blocks: w.blocks }
    }

    /// Elements of one row of sums.
    #[inline(always)]
    pub(super) fn width<E: Element, S: Simd<E>, L: List<S::V>>(self) -> usize {
        self.blocks * (L::LEN * S::LANES)
    }

    /// Where `N` blocks from `block` on begin.
    ///
    /// # Safety
    /// The blocks must exist.
    #[inline(always)]
    pub(super) unsafe fn blocks_at<E, S, L, const N: usize>(self, block: usize) -> [*const T; N]
    where
        E: Element,
        S: Simd<E>,
        L: List<S::V>,
    {
        let mut at = [self.data; N];
        for n in 0..N {
            // SAFETY: `new` compared the length; the caller vouches for the blocks.
            at[n] = unsafe { at[n].add((block + n) * self.inputs * (L::LEN * S::LANES)) };
        }
        at
    }
}

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

/// Sums of the products of all inputs, `[row][block][gate]`: of [`CHAINS`] chains, of which `Q` are computed side by side.
///
/// # Safety
/// `w[n]` must be readable for `inputs * G * LANES` elements, `x[r]` for `inputs`.
#[inline(always)]
pub(super) unsafe fn multiply<E, S, L, W, const R: usize, const N: usize, const Q: usize>(
    s: S,
    w: [*const W::Item; N],
    x: [*const E; R],
    inputs: usize,
) -> [[L; N]; R]
where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
    W: Stored<E>,
{
    let division = Division::of(inputs);
    if division.length == 0 {
        let mut total = [[L::all(s.splat(E::ZERO)); N]; R];
        for k in 0..division.undivided {
            // SAFETY: `k < inputs`; the caller vouches for the rest.
            unsafe { multiply_one::<E, S, L, W, R, N>(s, w, k, x, k, &mut total) }
        }
        return total;
    }
    // Neighbouring chains are added up in pairs, then the pairs.
    // SAFETY: the caller's, and all these chains exist.
    unsafe {
        if const { Q == CHAINS } {
            let sums = chains::<E, S, L, W, R, N, Q>(s, w, x, division, 0);
            return add(s, add(s, sums[0], sums[1]), add(s, sums[2], sums[3]));
        }
        if const { Q == 2 } {
            let low = chains::<E, S, L, W, R, N, Q>(s, w, x, division, 0);
            let low = add(s, low[0], low[1]);
            let high = chains::<E, S, L, W, R, N, Q>(s, w, x, division, 2);
            return add(s, low, add(s, high[0], high[1]));
        }
        // Not initialised, since zeros would be written to memory for every tile.
        let mut pairs = [const { MaybeUninit::<[[L; N]; R]>::uninit() }; CHAINS / 2];
        for chain in 0..CHAINS {
            let [sum] = chains::<E, S, L, W, R, N, 1>(s, w, x, division, chain);
            let pair = &mut pairs[chain / 2];
            // The even chain of a pair has written what the odd one reads.
            pair.write(if chain % 2 == 0 { sum } else { add(s, pair.assume_init(), sum) });
        }
        add(s, pairs[0].assume_init(), pairs[1].assume_init())
    }
}

/// Sums of the products of chains `first..first + Q`, side by side.
///
/// # Safety
/// As [`multiply`]; the chains must exist.
#[inline(always)]
unsafe fn chains<E, S, L, W, const R: usize, const N: usize, const Q: usize>(
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
                let (at, k) = (place::<Q>(division, chain, k), division.start(chain) + k);
                multiply_one::<E, S, L, W, R, N>(s, w, at, x, k, &mut acc[c]);
            }
        }
    }
    for c in 0..Q {
        let (chain, last) = (first + c, division.length);
        if chain < division.longer {
            // SAFETY: as above; this chain has one input more.
            unsafe {
                let (at, k) = (place::<Q>(division, chain, last), division.start(chain) + last);
                multiply_one::<E, S, L, W, R, N>(s, w, at, x, k, &mut acc[c]);
            }
        }
    }
    acc
}

/// Where the weights of the `j`-th input of chain `c` lie, in the layout that tiles with `Q` chains
/// side by side want ([`Packed::for_rows`]).
#[inline(always)]
fn place<const Q: usize>(division: Division, c: usize, j: usize) -> usize {
    if Q == 1 { division.start(c) + j } else { division.position(c, j) }
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
unsafe fn multiply_one<E, S, L, W, const R: usize, const N: usize>(
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
    for n in 0..N {
        for gate in 0..L::LEN {
            // SAFETY: the caller's.
            let w = unsafe { W::load(s, w[n].add((at * L::LEN + gate) * S::LANES)) };
            for r in 0..R {
                // SAFETY: the caller's.
                let x = s.splat(unsafe { *x[r].add(k) });
                let sum = &mut acc[r][n].as_mut()[gate];
                *sum = s.mul_add(x, w, *sum);
            }
        }
    }
}
