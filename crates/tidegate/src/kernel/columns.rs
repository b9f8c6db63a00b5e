//! Sums of many rows, one column of blocks of units after the other, in tiles as large as the registers hold.
//!
//! The tiles are compiled once for a number of gates, whatever is done with the sums: what a cell does with those of a tile
//! is a function that is called with them. How rows and blocks are cut into tiles changes no bit ([`super::tile`]).
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(
    clippy::needless_range_loop,
    reason = "rows, blocks and gates index several lists at once"
)]

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;

use tidegate_simd::{Element, Kernel, Simd, tile_bytes};

use super::ahead::{Share, Weights, rows_ask};
use super::cells::{Cells, Place, RunCells};
use super::matrix::Matrix;
use super::pack::Packed;
use super::stored::Stored;
use super::tile::{multiply, rows_at};
use super::walk::groups;
use crate::cell::List;

/// What the sums of a gate start from.
#[derive(Copy, Clone, Debug)]
pub(super) struct Start<E> {
    /// The first row's, as long as a row of sums.
    pub(super) first: *const E,
    /// Elements to the next row's: none if all have the same.
    pub(super) stride: usize,
}

/// Where the sums go.
#[derive(Copy, Clone, Debug)]
pub(super) enum To<'a, E> {
    /// To rows like those of the matrix's sums.
    Rows(*mut E),
    /// Tile by tile, `[rows, blocks, gates, lanes]`, to a function that runs the cells there.
    Cells(&'a Cells<E>, RunCells<E>),
}

/// `W x[row]` and what it starts from, for rows `0..rows`, of a matrix kept as `W` says with as many gates as `L` has
/// entries.
pub(super) struct Columns<'a, E: Element, L: List<()>, W> {
    // INVARIANT: whoever makes it has compared what the pointers point to with the rows and blocks.
    /// The matrix, packed.
    pub(super) w: &'a Packed<E>,
    /// A gate each.
    pub(super) start: L::Of<Start<E>>,
    /// The first of the rows to multiply with.
    pub(super) x: *const E,
    /// Elements from one of them to the next.
    pub(super) x_stride: usize,
    /// Where the sums go.
    pub(super) to: To<'a, E>,
    /// Number of rows.
    pub(super) rows: usize,
    /// The blocks of units to compute.
    pub(super) blocks: Range<usize>,
    /// Whether to begin with the last block: weights that have just been read are still in the cache when the next step
    /// begins with them.
    pub(super) backwards: bool,
    pub(super) stored: PhantomData<W>,
}

/// Blocks side by side in a tile.
const fn side(gates: usize, registers: usize) -> usize {
    match (gates, registers > 16) {
        (4, _) | (3, false) => 1,
        (3, true) => 2,
        _ => 4,
    }
}

/// Most rows of a tile of `vectors` vectors a row: the accumulators take up to 24 of 32 registers, or 12 of 16.
const fn most_rows(vectors: usize, registers: usize) -> usize {
    let most = if registers > 16 { 24 / vectors } else { 12 / vectors };
    // An eighth input does not fit beside 24 accumulators.
    let fit = if vectors == 3 { 7 } else { 6 };
    if most > fit { fit } else { most }
}

/// Whether tiles of one block hold enough to be used instead of such of several.
const fn is_enough(gates: usize) -> bool {
    gates >= 3
}

/// Most vectors of a tile's sums.
const MOST_VECTORS: usize = 24;

/// Each of the `groups`, as many neighbours as it has and the first of them, and the first of the next group.
#[inline(always)]
fn with_next(
    groups: impl Iterator<Item = (usize, usize)>,
) -> impl Iterator<Item = (usize, usize, Option<usize>)> {
    let mut groups = groups.peekable();
    core::iter::from_fn(
        #[inline(always)]
        move || {
            let (side, block) = groups.next()?;
            Some((side, block, groups.peek().map(|&(_, next)| next)))
        },
    )
}

/// The tiles of `rows` rows, at most so many each: the first row, how many, and the share of the weights of the `next`
/// blocks that the tile asks for, if there are such blocks.
#[inline(always)]
fn tiles(
    rows: usize,
    most: usize,
    next: Option<(Weights, usize)>,
) -> impl Iterator<Item = (usize, usize, Share)> {
    let (mut next, inputs) = match next {
        Some((weights, blocks)) => {
            (Share::first(weights, blocks, rows.div_ceil(most)), weights.inputs)
        }
        None => (Share::NOTHING, 0),
    };
    let mut row = 0;
    core::iter::from_fn(
        #[inline(always)]
        move || {
            if row == rows {
                return None;
            }
            // Rows left over are spread over the tiles: 7 rows are 4 and 3, not 6 and 1.
            let left = rows - row;
            let take = left.div_ceil(left.div_ceil(most));
            let (first, share) = (row, next);
            (row, next) = (row + take, share.next(inputs));
            Some((first, take, share))
        },
    )
}

impl<E, L, W> Kernel<E> for Columns<'_, E, L, W>
where
    E: Element,
    L: List<()>,
    W: Stored<E>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let w = Matrix::new::<E, S, L::Of<S::V>, W>(self.w, false);
        let ahead = rows_ask(self.rows, w.bytes::<E, S, L::Of<S::V>>());
        let Range { start, end } = self.blocks;
        // Cells take whole vectors.
        let low = S::Low::LANES < S::LANES && matches!(self.to, To::Rows(_));
        let low = low && start < end && w.is_low::<E, S>(end - 1);
        let end = end - usize::from(low);
        let tiles = Tiles { s, w, call: &self };
        let side = const { side(L::LEN, S::REGISTERS) };
        let bytes = side * w.weights::<S, E, L::Of<S::V>>(0).block_bytes();
        let is_far = const { is_enough(L::LEN) } && bytes > tile_bytes();
        let side = if is_far { 1 } else { side };
        // SAFETY: the invariant; the groups are parts of the blocks.
        unsafe {
            for (side, block, next) in with_next(groups(start..end, side, self.backwards)) {
                tiles.columns(side, block, next.filter(|_| ahead));
            }
            if low {
                Tiles { s: s.low(), w, call: &self }.column::<1>(end, None);
            }
        }
    }
}

/// [`Columns`] for an instruction set.
struct Tiles<'a, E: Element, S, L: List<()>, W: Stored<E>> {
    s: S,
    w: Matrix<W::Item>,
    call: &'a Columns<'a, E, L, W>,
}

impl<E, S, L, W> Tiles<'_, E, S, L, W>
where
    E: Element,
    S: Simd<E>,
    L: List<()>,
    W: Stored<E>,
{
    /// Computes all rows of `side` blocks, after which come those from `next` on if these are to be asked for.
    ///
    /// # Safety
    /// The blocks must exist.
    #[inline(always)]
    unsafe fn columns(&self, side: usize, block: usize, next: Option<usize>) {
        // SAFETY: the caller's.
        unsafe {
            match side {
                4 if const { self::side(L::LEN, S::REGISTERS) == 4 } => {
                    self.column::<4>(block, next)
                }
                2 if const { self::side(L::LEN, S::REGISTERS) == 2 } => {
                    self.column::<2>(block, next)
                }
                _ => self.column::<1>(block, next),
            }
        }
    }

    /// [`columns`](Self::columns) of `N` blocks.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn column<const N: usize>(&self, block: usize, next: Option<usize>) {
        let most = const { most_rows(L::LEN * N, S::REGISTERS) };
        let next = next.map(
            #[inline(always)]
            |next| (self.w.weights::<S, E, L::Of<S::V>>(next), N),
        );
        for (row, rows, share) in tiles(self.call.rows, most, next) {
            // SAFETY: these rows exist; the caller vouches for the blocks.
            unsafe {
                match rows {
                    7 if const { most_rows(L::LEN * N, S::REGISTERS) >= 7 } => {
                        self.tile::<7, N>(row, block, share);
                    }
                    6 if const { most_rows(L::LEN * N, S::REGISTERS) >= 6 } => {
                        self.tile::<6, N>(row, block, share);
                    }
                    5 if const { most_rows(L::LEN * N, S::REGISTERS) >= 5 } => {
                        self.tile::<5, N>(row, block, share);
                    }
                    4 if const { most_rows(L::LEN * N, S::REGISTERS) >= 4 } => {
                        self.tile::<4, N>(row, block, share);
                    }
                    3 if const { most_rows(L::LEN * N, S::REGISTERS) >= 3 } => {
                        self.tile::<3, N>(row, block, share);
                    }
                    2 => self.tile::<2, N>(row, block, share),
                    _ => self.tile::<1, N>(row, block, share),
                }
            }
        }
    }

    /// Computes `R` rows of `N` blocks, and asks for the `share` of the next block's weights meanwhile.
    ///
    /// # Safety
    /// The rows and blocks must exist.
    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(&self, row: usize, block: usize, share: Share) {
        let (s, w, call) = (self.s, self.w, self.call);
        let vectors = L::LEN * S::BLOCK;
        assert!(R * N * L::LEN <= MOST_VECTORS); // known when compiled
        let mut room = [const { MaybeUninit::<S::V>::uninit() }; MOST_VECTORS];
        // SAFETY: the invariant of `Columns`; a tile's sums have room for `R * N * L::LEN` vectors.
        unsafe {
            let weights = w.blocks_at::<E, S, L::Of<S::V>, N>(block);
            let x = rows_at::<E, R>(call.x, call.x_stride, row);
            let division = w.division::<1>();
            let products =
                multiply::<_, _, L::Of<S::V>, W, R, N, 1, false>(s, weights, x, division, share);
            let width = w.width::<E, S, L::Of<S::V>>();
            let (to, stride) = match call.to {
                To::Rows(to) => (to.add(row * width + block * vectors), width),
                To::Cells(..) => (room.as_mut_ptr().cast(), N * vectors),
            };
            for gate in 0..L::LEN {
                let Start { first, stride: onwards } = call.start.as_ref()[gate];
                let at = block * vectors + gate * S::BLOCK;
                let (mut start, mut to) = (first.add(row * onwards + at), to.add(gate * S::BLOCK));
                for r in 0..R {
                    for n in 0..N {
                        let sum =
                            s.add(s.load(start.add(n * vectors)), products[r][n].as_ref()[gate]);
                        s.store(sum, to.add(n * vectors));
                    }
                    (start, to) = (start.wrapping_add(onwards), to.wrapping_add(stride));
                }
            }
            if let To::Cells(cells, run) = call.to {
                run(cells, &mut Place { row, rows: R, block, blocks: N }, to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ahead::LINE_BYTES;
    use super::*;

    const INPUTS: usize = 32;
    /// Bytes of a block of 4 vectors of 64 bytes.
    const BLOCK_BYTES: usize = INPUTS * 4 * 64;

    /// The parts of the next block that the tiles of `rows` rows ask for.
    fn shares(rows: usize, is_next: bool) -> Vec<Range<usize>> {
        let first = core::ptr::null::<u8>().wrapping_add(BLOCK_BYTES);
        let weights = Weights { first, inputs: INPUTS, bytes: 4 * 64 };
        let tiles = tiles(rows, 6, is_next.then_some((weights, 1)));
        tiles.map(|(_, _, share)| share.begin()..share.next(INPUTS).begin()).collect()
    }

    #[test]
    fn tiles_take_every_row_once_and_few_more_in_one_than_in_another() {
        for rows in 0..100 {
            let tiles: Vec<_> = tiles(rows, 6, None).collect();
            let mut next = 0;
            for &(first, count, _) in &tiles {
                assert_eq!(first, next);
                next += count;
            }
            let counts = tiles.iter().map(|tile| tile.1);
            assert_eq!((next, tiles.len()), (rows, rows.div_ceil(6)));
            assert!(counts.clone().max() <= counts.min().map(|least| least + 1));
        }
    }

    #[test]
    fn the_next_group_is_the_one_that_follows() {
        for (backwards, want) in [
            (false, [(2, 4, Some(6)), (2, 6, Some(8)), (1, 8, None)]),
            (true, [(1, 8, Some(6)), (2, 6, Some(4)), (2, 4, None)]),
        ] {
            assert!(with_next(groups(4..9, 2, backwards)).eq(want));
        }
    }

    #[test]
    fn tiles_ask_for_all_of_the_block_that_comes_next() {
        let shares = shares(64, true);
        assert_eq!((shares.len(), shares[0].start), (11, BLOCK_BYTES));
        assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
        let asked = shares[10].end - shares[0].start;
        assert!((BLOCK_BYTES..BLOCK_BYTES + INPUTS * 11).contains(&asked));
    }

    #[test]
    fn few_tiles_ask_for_a_line_an_input() {
        let shares = shares(12, true);
        assert_eq!(shares[0], BLOCK_BYTES..BLOCK_BYTES + INPUTS * LINE_BYTES);
        assert_eq!(shares[1].len(), INPUTS * LINE_BYTES);
    }

    #[test]
    fn nothing_is_asked_for_where_nothing_comes() {
        assert!(shares(64, false).iter().all(Range::is_empty));
    }
}
