//! In what order a kernel takes its tiles of `R` rows by `N` blocks of units.
//!
//! The size of a tile is what the registers hold; it changes no bit ([`super::tile`]).
#![allow(unsafe_code, reason = "what a tile does with rows and blocks is the caller's promise")]

use core::ops::Range;

use tidegate_simd::prefetch;

use super::ahead::{Share, Weights};
use super::chains::CHAINS;

/// The work on one tile of `R` rows and `N` blocks.
pub(super) trait Tile {
    /// Number of gates, each a vector of one row and block.
    const GATES: usize;
    /// Number of vector registers.
    const REGISTERS: usize;
    /// The same work on the lower lanes of vectors alone.
    type Low: Tile;
    /// Whether that takes less time.
    const LOW: bool;
    /// Whether it does for many rows, and often enough to compile it for them.
    const LOW_OF_MANY: bool;

    /// The weights of `block`.
    fn weights(&self, block: usize) -> Weights;

    /// Whether the lower lanes hold all units of a block.
    fn is_low(&self, block: usize) -> bool;

    /// The tile for such a block.
    fn low(&self) -> Self::Low;

    /// Does the work on the tile that begins at `row` and `block`, with `Q` chains side by side. A tile of one row asks
    /// for its weights `AHEAD` of their use if so, one of several rows for its `share` of the next block's.
    ///
    /// # Safety
    /// Rows `row..row + R` and blocks `block..block + N` must exist.
    unsafe fn run<const R: usize, const N: usize, const Q: usize, const AHEAD: bool>(
        &mut self,
        row: usize,
        block: usize,
        share: Share,
    );
}

/// A tile that can do the work on two blocks of the only row side by side.
pub(super) trait PairTile: Tile {
    /// Whether that may take less time.
    const PAIRS: bool;

    /// Does it from `block` on, with `Q` chains side by side.
    ///
    /// # Safety
    /// The row must be the only one, the blocks must exist.
    unsafe fn run_pair<const Q: usize>(&mut self, block: usize);
}

/// Which rows a kernel works on, and with weights from where.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Rows {
    /// Any number of them, which ask for the next weights if they come from `far`.
    Many { rows: usize, far: bool },
    /// One, whose chains run side by side.
    Alone,
    /// The same, whose weights come from further away than the level-2 cache and are asked for ahead of their use.
    AloneFar,
}

impl Rows {
    /// `rows` rows, or one `alone`, which reads `bytes` of weights.
    #[inline(always)]
    pub(super) fn new(rows: usize, alone: bool, bytes: usize) -> Self {
        debug_assert!(rows == 1 || !alone);
        let far = bytes > NEAR_BYTES;
        match alone {
            false => Self::Many { rows, far: far && prefetch().next_block },
            true if far && prefetch().stream => Self::AloneFar,
            true => Self::Alone,
        }
    }
}

/// Weights that a core may have in its level-2 cache when it comes back to them. Asking for them ahead of their use
/// costs a twentieth of the time then, even where it is worth a fifth beyond (Zen 5).
const NEAR_BYTES: usize = 768 << 10;

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

/// Runs `tile` over all `rows` of `blocks`; `backwards` takes the last blocks first.
///
/// Weights that have just been read are still in the cache when the next step begins with them.
///
/// # Safety
/// `tile` must accept every row of `rows` and every block of `blocks`.
#[inline(always)]
pub(super) unsafe fn walk<T: Tile>(
    tile: &mut T,
    rows: Rows,
    blocks: Range<usize>,
    backwards: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        // A loop each, so that none computes beforehand what only another needs.
        match rows {
            Rows::Many { rows, far } => walk_many(tile, rows, far, blocks, backwards),
            Rows::Alone => walk_one::<T, false>(tile, blocks, backwards),
            Rows::AloneFar => walk_one::<T, true>(tile, blocks, backwards),
        }
    }
}

/// Runs `tile` over the only row of `blocks`, which it takes in pairs where [`PairTile::PAIRS`].
///
/// # Safety
/// As [`walk`].
#[inline(always)]
pub(super) unsafe fn walk_pairs<T: PairTile>(tile: &mut T, blocks: Range<usize>, backwards: bool) {
    // SAFETY: the caller's; the groups are parts of the blocks.
    unsafe {
        if const { !T::PAIRS } {
            return walk_one::<T, false>(tile, blocks, backwards);
        }
        for (side, block) in groups(blocks, 2, backwards) {
            match side {
                2 => tile.run_pair::<CHAINS>(block),
                _ => single_block::<T, false>(tile, block),
            }
        }
    }
}

/// Runs `tile` over all `rows` of `blocks`, whose weights come from `far` or not.
///
/// # Safety
/// As [`walk`].
#[inline(always)]
unsafe fn walk_many<T: Tile>(
    tile: &mut T,
    rows: usize,
    far: bool,
    blocks: Range<usize>,
    backwards: bool,
) {
    let side = const { side_of_many(T::GATES, T::REGISTERS) };
    let low = T::LOW_OF_MANY && !blocks.is_empty() && tile.is_low(blocks.end - 1);
    let whole = blocks.start..blocks.end - usize::from(low);
    let mut groups = groups(whole.clone(), side, backwards).peekable();
    // SAFETY: the caller's; the groups are parts of the blocks.
    unsafe {
        while let Some((side, block)) = groups.next() {
            let next = groups.peek().filter(|_| far).map(|&(_, next)| next);
            match side {
                4 if const { side_of_many(T::GATES, T::REGISTERS) == 4 } => {
                    column::<T, 4>(tile, rows, block, next);
                }
                2 if const { side_of_many(T::GATES, T::REGISTERS) == 2 } => {
                    column::<T, 2>(tile, rows, block, next);
                }
                _ => column::<T, 1>(tile, rows, block, next),
            }
        }
        if low {
            column::<_, 1>(&mut tile.low(), rows, whole.end, None);
        }
    }
}

/// Runs `tile` over the only row of `blocks`.
///
/// # Safety
/// As [`walk`].
#[inline(always)]
unsafe fn walk_one<T: Tile, const AHEAD: bool>(
    tile: &mut T,
    blocks: Range<usize>,
    backwards: bool,
) {
    let side = const { side_of_one(T::GATES, T::REGISTERS) };
    for (side, block) in groups(blocks, side, backwards) {
        // SAFETY: the caller's; the groups are parts of the blocks.
        unsafe {
            match side {
                4 if const { side_of_one(T::GATES, T::REGISTERS) == 4 } => {
                    single_row::<T, 4, AHEAD>(tile, block);
                }
                2 if const { side_of_one(T::GATES, T::REGISTERS) == 2 } => {
                    single_row::<T, 2, AHEAD>(tile, block);
                }
                _ => single_block::<T, AHEAD>(tile, block),
            }
        }
    }
}

/// Runs `tile` over the only row of one block, of lower lanes if they hold all units.
///
/// # Safety
/// As [`walk`], for `block`.
#[inline(always)]
unsafe fn single_block<T: Tile, const AHEAD: bool>(tile: &mut T, block: usize) {
    // SAFETY: the caller's.
    unsafe {
        if T::LOW && tile.is_low(block) {
            single_row::<_, 1, AHEAD>(&mut tile.low(), block);
        } else {
            single_row::<T, 1, AHEAD>(tile, block);
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
unsafe fn single_row<T: Tile, const N: usize, const AHEAD: bool>(tile: &mut T, block: usize) {
    // SAFETY: the caller's.
    unsafe {
        if const { chains_of_one(T::GATES, T::REGISTERS) == 2 } {
            tile.run::<1, N, 2, AHEAD>(0, block, Share::UNUSED);
        } else {
            tile.run::<1, N, CHAINS, AHEAD>(0, block, Share::UNUSED);
        }
    }
}

/// Runs `tile` over all `rows` of `N` blocks, after which come those from `next` on if these are to be asked for.
///
/// # Safety
/// As [`walk`], for `block..block + N`.
#[inline(always)]
unsafe fn column<T: Tile, const N: usize>(
    tile: &mut T,
    rows: usize,
    block: usize,
    next: Option<usize>,
) {
    let most = const { most_rows(T::GATES * N, T::REGISTERS) };
    let weights = tile.weights(next.unwrap_or(block));
    let mut share = match next {
        Some(_) => Share::first(weights, N, rows.div_ceil(most)),
        None => Share::nothing(weights),
    };
    let mut row = 0;
    while row < rows {
        // Rows left over are spread over the tiles: 7 rows are 4 and 3, not 6 and 1.
        let left = rows - row;
        let take = left.div_ceil(left.div_ceil(most));
        // SAFETY: `take <= left`, so the rows exist; the caller vouches for the blocks.
        unsafe {
            match take {
                6 if const { most_rows(T::GATES * N, T::REGISTERS) >= 6 } => {
                    tile.run::<6, N, 1, false>(row, block, share);
                }
                5 if const { most_rows(T::GATES * N, T::REGISTERS) >= 5 } => {
                    tile.run::<5, N, 1, false>(row, block, share);
                }
                4 if const { most_rows(T::GATES * N, T::REGISTERS) >= 4 } => {
                    tile.run::<4, N, 1, false>(row, block, share);
                }
                3 if const { most_rows(T::GATES * N, T::REGISTERS) >= 3 } => {
                    tile.run::<3, N, 1, false>(row, block, share);
                }
                2 => tile.run::<2, N, 1, false>(row, block, share),
                _ => tile.run::<1, N, 1, false>(row, block, share),
            }
        }
        row += take;
        share = share.next(weights.inputs);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ahead::LINE_BYTES;
    use super::*;

    /// Lists the shares of its tiles, of weights of 64 blocks from address zero on: 32 inputs of 4 vectors of 64 bytes.
    #[derive(Default)]
    struct Shares(Vec<Range<usize>>);

    const BLOCK_BYTES: usize = 32 * 4 * 64;

    impl Tile for Shares {
        const GATES: usize = 4;
        const REGISTERS: usize = 32;
        type Low = Self;
        const LOW: bool = false;
        const LOW_OF_MANY: bool = false;

        fn weights(&self, block: usize) -> Weights {
            let first = core::ptr::null::<u8>().wrapping_add(block * BLOCK_BYTES);
            Weights { first, inputs: 32, bytes: 256 }
        }
        fn is_low(&self, _: usize) -> bool {
            false
        }
        fn low(&self) -> Self {
            Self::default()
        }
        unsafe fn run<const R: usize, const N: usize, const Q: usize, const AHEAD: bool>(
            &mut self,
            _: usize,
            _: usize,
            share: Share,
        ) {
            self.0.push(share.begin()..share.next(32).begin());
        }
    }

    /// The shares of all tiles of `rows` rows and three blocks.
    fn shares(rows: usize, far: bool, backwards: bool) -> Vec<Range<usize>> {
        let mut tile = Shares::default();
        // SAFETY: a tile without memory accepts all.
        unsafe { walk(&mut tile, Rows::Many { rows, far }, 4..7, backwards) }
        tile.0
    }

    #[test]
    fn tiles_ask_for_all_of_the_block_that_comes_next() {
        for (backwards, next) in [(false, [5, 6]), (true, [5, 4])] {
            let shares = shares(64, true, backwards);
            let columns: Vec<_> = shares.chunks(11).collect();
            for (column, next) in columns.iter().zip(next) {
                assert_eq!(column[0].start, next * BLOCK_BYTES);
                assert!(column.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(
                    (BLOCK_BYTES..BLOCK_BYTES + 32 * 11)
                        .contains(&(column[10].end - column[0].start))
                );
            }
            // After the last block the next step begins with the same one.
            assert!(columns[2].iter().all(Range::is_empty));
        }
    }

    #[test]
    fn few_tiles_ask_for_a_line_an_input() {
        let shares = shares(12, true, false);
        assert_eq!(shares[0], 5 * BLOCK_BYTES..5 * BLOCK_BYTES + 32 * LINE_BYTES);
        assert_eq!(shares[1].len(), 32 * LINE_BYTES);
    }

    #[test]
    fn near_weights_are_not_asked_for() {
        assert!(shares(64, false, false).iter().all(Range::is_empty));
    }
}
