//! A step of a row alone at some blocks of units: products, then the cell's arithmetic straight from the accumulators.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(clippy::needless_range_loop, reason = "blocks and gates index several lists at once")]

use core::marker::PhantomData;

use tidegate_simd::{Element, Several, SideBySide, Simd, Uneven};

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

/// Of an [`Uneven`] pair.
#[inline(always)]
fn uneven<A, B>(first: A, second: B) -> (A, B) {
    (first, second)
}

/// Of [`Several`].
#[inline(always)]
fn even<A>(first: A, second: A) -> [A; 2] {
    [first, second]
}

/// Of one alone.
#[inline(always)]
fn first<A, B>(first: A, _: B) -> [A; 1] {
    [first]
}

/// The sums of two blocks, vectors side by side as `join` says.
#[inline(always)]
fn join<C: Cell, A: Copy, B: Copy, V: Copy>(
    first: C::Gates<A>,
    second: C::Gates<B>,
    join: impl Fn(A, B) -> V,
) -> C::Gates<V> {
    let (first, second) = (first.as_ref(), second.as_ref());
    let mut joined = C::Gates::all(join(first[0], second[0]));
    for gate in 1..first.len() {
        joined.as_mut()[gate] = join(first[gate], second[gate]);
    }
    joined
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

    /// Computes what the input adds to the next step's gate sums of `N` blocks.
    ///
    /// # Safety
    /// The blocks must exist, and their own sums must have been read.
    #[inline(always)]
    unsafe fn next_sums<const N: usize, const Q: usize>(&self, block: usize) {
        let (s, gates) = (self.s, <C::Gates<S::V> as List<S::V>>::LEN);
        // SAFETY: whoever made the tile checked everything against the blocks.
        unsafe {
            let sums = self.input_sums::<N, Q, false>(block);
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

    /// Runs the cell at the blocks `at`, one beside the other, from the sums that `input` and `products` hold of all of them
    /// to the state; `meanwhile` what it is to do beside that, in two parts.
    ///
    /// # Safety
    /// The blocks must exist.
    #[inline(always)]
    unsafe fn finish<V: SideBySide<E, N>, const N: usize>(
        &self,
        s: V,
        at: [usize; N],
        input: C::Gates<V::V>,
        products: C::Gates<V::V>,
        meanwhile: impl FnMut(usize),
    ) {
        let gates = <C::Gates<V::V> as List<V::V>>::LEN;
        let (mut x, mut h) = (input, products);
        // SAFETY: whoever made the tile checked what this cell needs against the blocks.
        unsafe {
            for gate in 0..gates {
                let places = at.map(|block| (block * gates + gate) * S::BLOCK);
                if INPUT != WHOLE {
                    x.as_mut()[gate] = s.load_each(self.cells.sums, places);
                }
                let start = match C::SPLIT[gate] {
                    true => s.load_each(self.start, places),
                    false => x.as_ref()[gate],
                };
                h.as_mut()[gate] = s.add(start, h.as_ref()[gate]);
            }
            let rows = at.map(|block| (0, block));
            self.cells.run::<V, C, KEEP, N>(s, rows, x, h, meanwhile);
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
            for Block { index, input, products } in self.blocks::<N, Q, AHEAD>(block) {
                self.finish(
                    Several::<S, 1>::new(self.s),
                    [index],
                    join::<C, _, _, _>(input, input, first),
                    join::<C, _, _, _>(products, products, first),
                    #[inline(always)]
                    |part| {
                        if const { INPUT == NEXT && N == 1 } && part == 1 {
                            self.next_sums::<1, Q>(index);
                        }
                    },
                );
            }
            if const { INPUT == NEXT && N > 1 } {
                self.next_sums::<N, Q>(block);
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
            if const { Self::LOW } && self.is_low(block + 1) {
                let low = self.low();
                let [second] = low.blocks::<1, Q, false>(block + 1);
                self.finish(
                    Uneven::new(self.s),
                    [block, block + 1],
                    join::<C, _, _, _>(first.input, second.input, uneven),
                    join::<C, _, _, _>(first.products, second.products, uneven),
                    #[inline(always)]
                    |part| match (const { INPUT == NEXT }, part) {
                        (true, 0) => self.next_sums::<1, Q>(block),
                        (true, 1) => low.next_sums::<1, Q>(block + 1),
                        _ => (),
                    },
                );
                return;
            }
            let [second] = self.blocks::<1, Q, false>(block + 1);
            self.finish(
                Several::<S, 2>::new(self.s),
                [block, block + 1],
                join::<C, _, _, _>(first.input, second.input, even),
                join::<C, _, _, _>(first.products, second.products, even),
                #[inline(always)]
                |part| {
                    if const { INPUT == NEXT } && part < 2 {
                        self.next_sums::<1, Q>(block + part);
                    }
                },
            );
        }
    }
}
