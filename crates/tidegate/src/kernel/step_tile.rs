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

/// What the input adds to a step's gate sums was computed before, for many steps.
pub(super) const HOISTED: u8 = 0;
/// A step begins with the products of its input.
pub(super) const WHOLE: u8 = 1;
/// A step computes the products of the next one's input while it waits for its activations. Those of its own come after the
/// activations of the step before in a `WHOLE` one, where a processor looks ahead to a part of them: sequences of 8 to 32
/// units took 0.87 to 0.98 of the time (Zen 4).
pub(super) const NEXT: u8 = 2;

/// What the input adds to the gate sums.
#[derive(Copy, Clone)]
pub(super) struct InputTile<E, T> {
    /// `W_ih`.
    pub(super) w: Matrix<T>,
    /// The biases, `[w.width()]`.
    pub(super) start: *const E,
    /// The input, `[I]`: of a `WHOLE` step its own, else the next one's.
    pub(super) x: *const E,
    /// Where the next one's sums go, `[w.width()]`: the place of the step's own, each block's when they have been read.
    pub(super) next: *mut E,
}

/// The step by value. `INPUT` says when what its input adds is computed: [`HOISTED`], [`WHOLE`] or [`NEXT`].
pub(super) struct StepTile<E, S, C, T, W, const KEEP: bool, const INPUT: u8> {
    pub(super) s: S,
    pub(super) w: Matrix<T>,
    /// `b_hh` of the gates that are split, `[w.width()]`.
    pub(super) start: *const E,
    /// Not used where that is `HOISTED`.
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
        Block { index, input: raise(s, input), products: raise(s, products) }
    }
}

/// The same vectors, zero beyond the lower lanes.
#[inline(always)]
fn raise<E, S, G, L>(s: S, low: G) -> L
where
    E: Element,
    S: Simd<E>,
    G: List<<S::Low as Simd<E>>::V>,
    L: List<S::V>,
{
    let mut raised = L::all(s.splat(E::ZERO));
    for (raised, &low) in raised.as_mut().iter_mut().zip(low.as_ref()) {
        *raised = s.raise(low);
    }
    raised
}

impl<E, S, C, W, const KEEP: bool, const INPUT: u8> StepTile<E, S, C, W::Item, W, KEEP, INPUT>
where
    E: Element,
    S: Simd<E>,
    C: Cell,
    W: Stored<E>,
{
    /// What the input adds to the gate sums of `N` blocks.
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
            let InputTile { w, start, x, .. } = self.input;
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

    /// Computes what the input adds to the next step's gate sums of `N` blocks; of a block of lower lanes whole vectors, if it is
    /// `raised`.
    ///
    /// # Safety
    /// The blocks must exist, and their own sums must have been read.
    #[inline(always)]
    unsafe fn next_sums<const N: usize, const Q: usize>(&self, block: usize, raised: bool) {
        let (s, gates) = (self.s, <C::Gates<S::V> as List<S::V>>::LEN);
        // SAFETY: whoever made the tile checked everything against the blocks.
        unsafe {
            let sums: [C::Gates<S::V>; N] = match raised && Self::LOW && self.is_low(block) {
                true => {
                    let [sums] = self.low().input_sums::<1, Q, false>(block);
                    [raise(s, sums); N]
                }
                false => self.input_sums::<N, Q, false>(block),
            };
            for n in 0..N {
                for gate in 0..gates {
                    let at = ((block + n) * gates + gate) * S::BLOCK;
                    s.store(sums[n].as_ref()[gate], self.input.next.add(at));
                }
            }
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
            let input = match INPUT {
                WHOLE => self.input_sums::<N, Q, AHEAD>(block),
                _ => [zero; N],
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

    /// Runs the cell at `N` blocks, one beside the other, from the products to the state; `meanwhile` the [`NEXT`] step's
    /// input products, with `Q` chains side by side.
    ///
    /// # Safety
    /// The blocks must exist.
    #[inline(always)]
    unsafe fn finish<const N: usize, const Q: usize>(
        &self,
        blocks: [BlockOf<C, S::V>; N],
        meanwhile: bool,
    ) {
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
                    let sum = match INPUT {
                        WHOLE => input.as_ref()[gate],
                        _ => s.load(self.cells.sums.add(at)),
                    };
                    x.as_mut()[gate][n] = sum;
                    let start = if C::SPLIT[gate] { s.load(self.start.add(at)) } else { sum };
                    h.as_mut()[gate][n] = s.add(start, products.as_ref()[gate]);
                }
                places[n] = (0, index);
            }
            self.cells.run::<S, C, KEEP, N>(
                s,
                places,
                x,
                h,
                #[inline(always)]
                |part| {
                    if const { INPUT == NEXT } && meanwhile && part < N {
                        self.next_sums::<1, Q>(places[part].1, N > 1);
                    }
                },
            );
        }
    }
}

impl<E, S, C, W, const KEEP: bool, const INPUT: u8> Tile
    for StepTile<E, S, C, W::Item, W, KEEP, INPUT>
where
    E: Element,
    S: Simd<E>,
    C: Cell,
    W: Stored<E>,
{
    const GATES: usize = <C::Gates<S::V> as List<S::V>>::LEN;
    const REGISTERS: usize = S::REGISTERS;
    type Low = StepTile<E, S::Low, C, W::Item, W, KEEP, INPUT>;
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
                self.finish::<1, Q>([block], N == 1);
            }
            if const { INPUT == NEXT && N > 1 } {
                self.next_sums::<N, Q>(block, false);
            }
        }
    }
}

impl<E, S, C, W, const KEEP: bool, const INPUT: u8> PairTile
    for StepTile<E, S, C, W::Item, W, KEEP, INPUT>
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
            let second = match Self::LOW && self.is_low(block + 1) {
                true => {
                    let [second] = self.low().blocks::<1, Q, false>(block + 1);
                    second.raised::<E, S, _>(self.s)
                }
                false => {
                    let [second] = self.blocks::<1, Q, false>(block + 1);
                    second
                }
            };
            self.finish::<2, Q>([first, second], true);
        }
    }
}
