//! A step of a row alone at some blocks of units: products, then the cell's arithmetic straight from the accumulators.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(clippy::needless_range_loop, reason = "blocks and gates index several lists at once")]

use core::marker::PhantomData;

use tidegate_simd::{Element, Simd};

use super::ahead::Share;
use super::cells::Cells;
use super::matrix::Matrix;
use super::stored::Stored;
use super::tile::multiply;
use super::walk::{PairTile, Tile};
use crate::cell::{Cell, List};

/// What the input adds to the gate sums.
#[derive(Copy, Clone)]
pub(super) struct InputTile<E, T> {
    /// `W_ih`.
    pub(super) w: Matrix<T>,
    /// The biases, `[w.width()]`.
    pub(super) start: *const E,
    /// The input, `[I]`.
    pub(super) x: *const E,
}

/// The step by value. One that is `WHOLE` begins with its input's products.
pub(super) struct StepTile<E, S, C, T, W, const KEEP: bool, const WHOLE: bool> {
    pub(super) s: S,
    pub(super) w: Matrix<T>,
    /// `b_hh` of the gates that are split, `[w.width()]`.
    pub(super) start: *const E,
    /// Not used unless the step is `WHOLE`.
    pub(super) input: InputTile<E, T>,
    pub(super) cells: Cells<E>,
    pub(super) cell: PhantomData<(C, W)>,
}

/// A block of units with the sums of its gates.
#[derive(Copy, Clone)]
struct Block<G> {
    index: usize,
    /// What the input of a `WHOLE` step adds.
    input: G,
    /// Those of the state.
    products: G,
}

/// Of cell `C`, in vectors `V`.
type BlockOf<C, V> = Block<<C as Cell>::Gates<V>>;

impl<G> Block<G> {
    /// The same with vectors that are zero beyond the lower lanes.
    #[inline(always)]
    fn raised<E: Element, S: Simd<E>, L: List<S::V>>(self, s: S) -> Block<L>
    where
        G: List<<S::Low as Simd<E>>::V>,
    {
        let Self { index, input, products } = self;
        let zero = L::all(s.splat(E::ZERO));
        let mut raised = Block { index, input: zero, products: zero };
        for gate in 0..L::LEN {
            raised.input.as_mut()[gate] = s.raise(input.as_ref()[gate]);
            raised.products.as_mut()[gate] = s.raise(products.as_ref()[gate]);
        }
        raised
    }
}

impl<E, S, C, W, const KEEP: bool, const WHOLE: bool> StepTile<E, S, C, W::Item, W, KEEP, WHOLE>
where
    E: Element,
    S: Simd<E>,
    C: Cell,
    W: Stored<E>,
{
    /// What the input adds to the gate sums of `N` blocks of a `WHOLE` step.
    ///
    /// # Safety
    /// The blocks must exist.
    #[inline(always)]
    unsafe fn input_sums<const N: usize, const Q: usize, const AHEAD: bool>(
        &self,
        block: usize,
    ) -> [C::Gates<S::V>; N] {
        let s = self.s;
        // SAFETY: whoever made the tile checked everything against the blocks.
        unsafe {
            let InputTile { w, start, x } = self.input;
            let at = w.blocks_at::<E, S, C::Gates<S::V>, N>(block);
            let division = w.division::<Q>();
            let share = Share::NOTHING;
            let [mut sums] =
                multiply::<_, _, C::Gates<S::V>, W, 1, N, Q, AHEAD>(s, at, [x], division, share);
            for n in 0..N {
                let gates = <C::Gates<S::V> as List<S::V>>::LEN;
                for (gate, sum) in sums[n].as_mut().iter_mut().enumerate() {
                    let at = ((block + n) * gates + gate) * S::BLOCK;
                    *sum = s.add(s.load(start.add(at)), *sum);
                }
            }
            sums
        }
    }

    /// `N` blocks from `block` on with their sums, computed with `Q` chains side by side.
    ///
    /// # Safety
    /// The blocks must exist.
    #[inline(always)]
    unsafe fn blocks<const N: usize, const Q: usize, const AHEAD: bool>(
        &self,
        block: usize,
    ) -> [BlockOf<C, S::V>; N] {
        let zero = C::Gates::<S::V>::all(self.s.splat(E::ZERO));
        // SAFETY: whoever made the tile checked everything against the blocks.
        let (input, products) = unsafe {
            let input = match WHOLE {
                true => self.input_sums::<N, Q, AHEAD>(block),
                false => [zero; N],
            };
            let w = self.w.blocks_at::<E, S, C::Gates<S::V>, N>(block);
            let (h, division, share) =
                ([self.cells.h_prev], self.w.division::<Q>(), Share::NOTHING);
            let [products] =
                multiply::<_, _, C::Gates<S::V>, W, 1, N, Q, AHEAD>(self.s, w, h, division, share);
            (input, products)
        };
        let mut blocks = [Block { index: block, input: zero, products: zero }; N];
        for n in 0..N {
            blocks[n] = Block { index: block + n, input: input[n], products: products[n] };
        }
        blocks
    }

    /// Runs the cell at `N` blocks, one beside the other, from the products to the state.
    ///
    /// # Safety
    /// The blocks must exist.
    #[inline(always)]
    unsafe fn finish<const N: usize>(&self, blocks: [BlockOf<C, S::V>; N]) {
        let s = self.s;
        let gates = <C::Gates<S::V> as List<S::V>>::LEN;
        let zero = [s.splat(E::ZERO); N];
        let mut x = C::Gates::<[S::V; N]>::all(zero);
        let mut h = C::Gates::<[S::V; N]>::all(zero);
        let mut places = [(0, 0); N];
        // SAFETY: whoever made the tile checked what this cell needs against the blocks.
        unsafe {
            for n in 0..N {
                let Block { index, input, products } = blocks[n];
                for gate in 0..gates {
                    let at = (index * gates + gate) * S::BLOCK;
                    let sum = match WHOLE {
                        true => input.as_ref()[gate],
                        false => s.load(self.cells.sums.add(at)),
                    };
                    x.as_mut()[gate][n] = sum;
                    let start = if C::SPLIT[gate] { s.load(self.start.add(at)) } else { sum };
                    h.as_mut()[gate][n] = s.add(start, products.as_ref()[gate]);
                }
                places[n] = (0, index);
            }
            self.cells.run::<S, C, KEEP, N>(s, places, x, h);
        }
    }
}

impl<E, S, C, W, const KEEP: bool, const WHOLE: bool> Tile
    for StepTile<E, S, C, W::Item, W, KEEP, WHOLE>
where
    E: Element,
    S: Simd<E>,
    C: Cell,
    W: Stored<E>,
{
    const GATES: usize = <C::Gates<S::V> as List<S::V>>::LEN;
    const REGISTERS: usize = S::REGISTERS;
    type Low = StepTile<E, S::Low, C, W::Item, W, KEEP, WHOLE>;
    const LOW: bool = S::Low::LANES < S::LANES;

    #[inline(always)]
    fn is_low(&self, block: usize) -> bool {
        self.w.is_low::<E, S>(block)
    }

    #[inline(always)]
    fn low(&self) -> Self::Low {
        let Self { w, start, input, cells, cell, .. } = *self;
        StepTile { s: self.s.low(), w, start, input, cells, cell }
    }

    #[inline(always)]
    unsafe fn run<const N: usize, const Q: usize, const AHEAD: bool>(&self, block: usize) {
        // SAFETY: the caller's.
        unsafe {
            for block in self.blocks::<N, Q, AHEAD>(block) {
                self.finish([block]);
            }
        }
    }
}

impl<E, S, C, W, const KEEP: bool, const WHOLE: bool> PairTile
    for StepTile<E, S, C, W::Item, W, KEEP, WHOLE>
where
    E: Element,
    S: Simd<E>,
    C: Cell,
    W: Stored<E>,
{
    const PAIRS: bool = Self::GATES > 1 && S::REGISTERS > 16;

    #[inline(always)]
    unsafe fn run_pair<const Q: usize>(&self, block: usize) {
        // SAFETY: the caller's.
        unsafe {
            let [first] = self.blocks::<1, Q, false>(block);
            let [second] = match Self::LOW && self.is_low(block + 1) {
                true => self.low().blocks::<1, Q, false>(block + 1).map(
                    #[inline(always)]
                    |block| block.raised::<E, S, _>(self.s),
                ),
                false => self.blocks::<1, Q, false>(block + 1),
            };
            self.finish([first, second]);
        }
    }
}
