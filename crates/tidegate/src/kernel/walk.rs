//! In what order a kernel takes the blocks of units of a row alone.
//!
//! The size of a tile is what the registers hold; it changes no bit ([`super::tile`]).
#![allow(unsafe_code, reason = "what a tile does with blocks is the caller's promise")]

use core::ops::Range;

use super::chains::CHAINS;

/// The work on one tile of `N` blocks of the only row.
pub(super) trait Tile {
    /// Number of gates, each a vector of one block.
    const GATES: usize;
    /// Number of vector registers.
    const REGISTERS: usize;
    /// The same work on the lower lanes of vectors alone.
    type Low: Tile;
    /// Whether that takes less time.
    const LOW: bool;

    /// Whether the lower lanes hold all units of a block.
    fn is_low(&self, block: usize) -> bool;

    /// The tile for such a block.
    fn low(&self) -> Self::Low;

    /// Does the work on the tile that begins at `block`, with `Q` chains side by side, asking for its weights `AHEAD` of
    /// their use if so.
    ///
    /// # Safety
    /// Blocks `block..block + N` must exist.
    unsafe fn run<const N: usize, const Q: usize, const AHEAD: bool>(&self, block: usize);
}

/// A tile that can do the work on two blocks side by side.
pub(super) trait PairTile: Tile {
    /// Whether that may take less time.
    const PAIRS: bool;

    /// Does it from `block` on, with `Q` chains side by side.
    ///
    /// # Safety
    /// The blocks must exist.
    unsafe fn run_pair<const Q: usize>(&self, block: usize);
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

/// Runs `tile` over `blocks`, asking for weights `ahead` of their use if so; `backwards` takes the last blocks first.
///
/// Weights that have just been read are still in the cache when the next step begins with them.
///
/// # Safety
/// `tile` must accept every block of `blocks`.
#[inline(always)]
pub(super) unsafe fn walk<T: Tile>(tile: &T, ahead: bool, blocks: Range<usize>, backwards: bool) {
    // SAFETY: the caller's.
    unsafe {
        // A loop each, so that neither computes beforehand what only the other needs.
        match ahead {
            false => walk_one::<T, false>(tile, blocks, backwards),
            true => walk_one::<T, true>(tile, blocks, backwards),
        }
    }
}

/// Runs `tile` over `blocks`, which it takes in pairs where [`PairTile::PAIRS`].
///
/// # Safety
/// As [`walk`].
#[inline(always)]
pub(super) unsafe fn walk_pairs<T: PairTile>(tile: &T, blocks: Range<usize>, backwards: bool) {
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

/// Runs `tile` over `blocks`.
///
/// # Safety
/// As [`walk`].
#[inline(always)]
unsafe fn walk_one<T: Tile, const AHEAD: bool>(tile: &T, blocks: Range<usize>, backwards: bool) {
    let side = const { side_of_one(T::GATES, T::REGISTERS) };
    for (side, block) in groups(blocks, side, backwards) {
        // SAFETY: the caller's; the groups are parts of the blocks.
        unsafe {
            match side {
                4 if const { side_of_one(T::GATES, T::REGISTERS) == 4 } => {
                    side_by_side::<T, 4, AHEAD>(tile, block);
                }
                2 if const { side_of_one(T::GATES, T::REGISTERS) == 2 } => {
                    side_by_side::<T, 2, AHEAD>(tile, block);
                }
                _ => single_block::<T, AHEAD>(tile, block),
            }
        }
    }
}

/// Runs `tile` over one block, of lower lanes if they hold all units.
///
/// # Safety
/// As [`walk`], for `block`.
#[inline(always)]
unsafe fn single_block<T: Tile, const AHEAD: bool>(tile: &T, block: usize) {
    // SAFETY: the caller's.
    unsafe {
        if T::LOW && tile.is_low(block) {
            side_by_side::<_, 1, AHEAD>(&tile.low(), block);
        } else {
            side_by_side::<T, 1, AHEAD>(tile, block);
        }
    }
}

/// `blocks` in groups of `side` neighbours, then one by one: how many, and the first of them.
#[inline(always)]
pub(super) fn groups(
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

/// Runs `tile` over `N` blocks.
///
/// # Safety
/// As [`walk`], for `block..block + N`.
#[inline(always)]
unsafe fn side_by_side<T: Tile, const N: usize, const AHEAD: bool>(tile: &T, block: usize) {
    // SAFETY: the caller's.
    unsafe {
        if const { chains_of_one(T::GATES, T::REGISTERS) == 2 } {
            tile.run::<N, 2, AHEAD>(block);
        } else {
            tile.run::<N, CHAINS, AHEAD>(block);
        }
    }
}
