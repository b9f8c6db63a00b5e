//! The two kernels: sums of many rows at once, and one step of a cell for many rows.
//!
//! Both walk tiles of `R` rows by `N` blocks of units whose accumulators stay in registers. Every
//! output is a sum of [`CHAINS`] chains of fused multiply-adds over fixed parts of the inputs, in
//! a fixed order. A tile of many rows runs the chains one after the other, a tile of one row side
//! by side, which hides the latency of a multiply-add: the tiles change no bit.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per multiply-add")]
#![allow(
    clippy::needless_range_loop,
    reason = "rows, blocks and gates index several lists at once"
)]

use tidegate_simd::{Element, Kernel, Simd};

use super::pack::Packed;
use crate::cell::{Cell, List};

/// Chains per output, over contiguous parts of the inputs of almost equal length.
///
/// Four chains of a quarter of the length round about half as much as one, and one row of an LSTM
/// on AVX-512 has 16 independent accumulators, enough to keep two multiply-add units busy.
const CHAINS: usize = 4;

/// Inputs from which on there are [`CHAINS`] chains; with fewer, the first chain has them all,
/// since adding up the chains would round more than one chain does.
const SPLIT_INPUTS: usize = 8;

/// How a number of inputs is divided among the chains.
#[derive(Copy, Clone)]
struct Division {
    /// Inputs of each chain, but for the remainder.
    length: usize,
    /// The first so many chains have one more.
    longer: usize,
    /// Inputs before the division: all of them, if there are few.
    undivided: usize,
}

impl Division {
    #[inline(always)]
    fn of(inputs: usize) -> Self {
        if inputs < SPLIT_INPUTS {
            return Self { length: 0, longer: 0, undivided: inputs };
        }
        Self { length: inputs / CHAINS, longer: inputs % CHAINS, undivided: 0 }
    }

    /// The first input of chain `c`.
    #[inline(always)]
    fn start(self, c: usize) -> usize {
        c * self.length + if c < self.longer { c } else { self.longer }
    }
}

/// The work on one tile of `R` rows and `N` blocks.
trait Tile {
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

/// Runs `tile` over all `rows` and `blocks`; `backwards` takes the last blocks first.
///
/// Weights that have just been read are still in the cache when the next step begins with them.
///
/// # Safety
/// `tile` must accept every row below `rows` and every block below `blocks`.
#[inline(always)]
unsafe fn walk<T: Tile>(tile: &mut T, rows: usize, blocks: usize, backwards: bool) {
    let one = const { side_of_one(T::GATES, T::REGISTERS) };
    let side = if rows == 1 { one } else { const { side_of_many(T::GATES, T::REGISTERS) } };
    let groups = blocks / side;
    let singles = blocks - groups * side;
    for index in 0..groups + singles {
        let index = if backwards { groups + singles - 1 - index } else { index };
        let (side, block) =
            if index < groups { (side, index * side) } else { (1, groups * side + index - groups) };
        // SAFETY: groups cover the first `groups * side` blocks, single blocks the others.
        unsafe {
            match side {
                4 if const { side_of_one(T::GATES, T::REGISTERS) == 4 } && rows == 1 => {
                    single_row::<T, 4>(tile, block);
                }
                2 if const { side_of_one(T::GATES, T::REGISTERS) == 2 } && rows == 1 => {
                    single_row::<T, 2>(tile, block);
                }
                _ if rows == 1 => single_row::<T, 1>(tile, block),
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

/// Sums of the products of all inputs, `[row][block][gate]`: of [`CHAINS`] chains, of which `Q` are computed side by side.
///
/// # Safety
/// `w[n]` must be readable for `inputs * G * LANES` elements, `x[r]` for `inputs`.
#[inline(always)]
unsafe fn multiply<E, S, L, const R: usize, const N: usize, const Q: usize>(
    s: S,
    w: [*const E; N],
    x: [*const E; R],
    inputs: usize,
) -> [[L; N]; R]
where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
{
    let zero = [[L::all(s.splat(E::ZERO)); N]; R];
    let division = Division::of(inputs);
    if division.length == 0 {
        let mut total = zero;
        for k in 0..division.undivided {
            // SAFETY: `k < inputs`; the caller vouches for the rest.
            unsafe { multiply_one(s, w, x, k, &mut total) }
        }
        return total;
    }
    // Neighbouring chains are added up in pairs, then the pairs.
    let mut pairs = [zero; CHAINS / 2];
    let mut first = 0;
    while first < CHAINS {
        let mut acc = [zero; Q];
        for k in 0..division.length {
            for c in 0..Q {
                // SAFETY: `k < inputs`; the caller vouches for the rest.
                unsafe { multiply_one(s, w, x, division.start(first + c) + k, &mut acc[c]) }
            }
        }
        for c in 0..Q {
            if first + c < division.longer {
                let last = division.start(first + c) + division.length;
                // SAFETY: as above.
                unsafe { multiply_one(s, w, x, last, &mut acc[c]) }
            }
            let pair = &mut pairs[(first + c) / 2];
            *pair = if (first + c) % 2 == 0 { acc[c] } else { add(s, *pair, acc[c]) };
        }
        first += Q;
    }
    add(s, pairs[0], pairs[1])
}

/// `a + b`, element by element.
#[inline(always)]
fn add<E, S, L, const R: usize, const N: usize>(
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

/// `acc[row][block][gate] += w[block][k][gate] * x[row][k]` for one `k`.
///
/// # Safety
/// As [`multiply`], with `k < inputs`.
#[inline(always)]
unsafe fn multiply_one<E, S, L, const R: usize, const N: usize>(
    s: S,
    w: [*const E; N],
    x: [*const E; R],
    k: usize,
    acc: &mut [[L; N]; R],
) where
    E: Element,
    S: Simd<E>,
    L: List<S::V>,
{
    for n in 0..N {
        for gate in 0..L::LEN {
            // SAFETY: the caller's.
            let w = unsafe { s.load(w[n].add((k * L::LEN + gate) * S::LANES)) };
            for r in 0..R {
                // SAFETY: the caller's.
                let x = s.splat(unsafe { *x[r].add(k) });
                let sum = &mut acc[r][n].as_mut()[gate];
                *sum = s.mul_add(x, w, *sum);
            }
        }
    }
}

/// Sums of many rows: `out[row] = start + W x[row]`.
pub(crate) struct Sums<'a, E> {
    /// The matrix, packed.
    pub(crate) w: &'a Packed<E>,
    /// What each sum starts from, `[w.width()]`.
    pub(crate) start: &'a [E],
    /// The rows, `[rows, x_stride]`, of which the first `K` elements of each are read.
    pub(crate) x: &'a [E],
    /// Elements from one row of `x` to the next.
    pub(crate) x_stride: usize,
    /// The sums, `[rows, w.width()]`.
    pub(crate) out: &'a mut [E],
    /// Number of rows.
    pub(crate) rows: usize,
}

impl<E: Element> Kernel<E> for Sums<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        match self.w.gates {
            4 => self.run_list::<S, [S::V; 4]>(s),
            3 => self.run_list::<S, [S::V; 3]>(s),
            1 => self.run_list::<S, [S::V; 1]>(s),
            gates => unreachable!("no cell has {gates} gates"),
        }
    }
}

impl<E: Element> Sums<'_, E> {
    /// Computes the sums, with `L` the list of the matrix's gates.
    #[inline(always)]
    fn run_list<S: Simd<E>, L: List<S::V>>(self, s: S) {
        let w = self.w;
        assert_eq!((w.gates, w.lanes), (L::LEN, S::LANES));
        assert_eq!(w.data.len(), w.blocks * w.block_len());
        assert_eq!(self.start.len(), w.width());
        assert!(self.rows == 0 || self.x.len() >= (self.rows - 1) * self.x_stride + w.inputs);
        assert!(self.out.len() >= self.rows * w.width());
        let (rows, blocks) = (self.rows, w.blocks);
        let mut tile = SumsTile { s, sums: self, list: core::marker::PhantomData::<L> };
        // SAFETY: the lengths were just compared with the rows and blocks.
        unsafe { walk(&mut tile, rows, blocks, false) }
    }
}

struct SumsTile<'a, E, S, L> {
    s: S,
    sums: Sums<'a, E>,
    list: core::marker::PhantomData<L>,
}

impl<E: Element, S: Simd<E>, L: List<S::V>> Tile for SumsTile<'_, E, S, L> {
    const GATES: usize = L::LEN;
    const REGISTERS: usize = S::REGISTERS;

    #[inline(always)]
    unsafe fn run<const R: usize, const N: usize, const Q: usize>(
        &mut self,
        row: usize,
        block: usize,
    ) {
        let (s, p) = (self.s, &mut self.sums);
        let vectors = L::LEN * S::LANES;
        let mut acc = [[L::all(s.splat(E::ZERO)); N]; R];
        // SAFETY: `Sums::run` checked every slice against the rows and blocks.
        unsafe {
            let mut w = [p.w.data.as_ptr(); N];
            for n in 0..N {
                w[n] = w[n].add((block + n) * p.w.block_len());
                for gate in 0..L::LEN {
                    let start =
                        s.load(p.start.as_ptr().add((block + n) * vectors + gate * S::LANES));
                    for acc in &mut acc {
                        acc[n].as_mut()[gate] = start;
                    }
                }
            }
            let mut x = [p.x.as_ptr(); R];
            for r in 0..R {
                x[r] = x[r].add((row + r) * p.x_stride);
            }
            let products = multiply::<_, _, _, R, N, Q>(s, w, x, p.w.inputs);
            let acc = add(s, acc, products);
            for r in 0..R {
                let out = p.out.as_mut_ptr().add((row + r) * p.w.width() + block * vectors);
                for n in 0..N {
                    for gate in 0..L::LEN {
                        s.store(acc[r][n].as_ref()[gate], out.add(n * vectors + gate * S::LANES));
                    }
                }
            }
        }
    }
}

/// One step of a cell for many rows.
///
/// Rows of `h_prev` are `h_stride` long, rows of `h` and `c` are `blocks * lanes`: the padding is
/// computed like any unit, from zero weights.
pub(crate) struct Step<'a, E> {
    /// `W_hh`, packed.
    pub(crate) w: &'a Packed<E>,
    /// `b_hh` of the gates that are split, `[w.width()]`.
    pub(crate) start: &'a [E],
    /// `b + W_ih x` of each row, `[rows, w.width()]`.
    pub(crate) sums: &'a [E],
    /// The state before the step, `[rows, h_stride]`.
    pub(crate) h_prev: &'a [E],
    /// Elements from one row of `h_prev` to the next.
    pub(crate) h_stride: usize,
    /// The state after the step, `[rows, blocks * lanes]`.
    pub(crate) h: &'a mut [E],
    /// The cell state, replaced in place, `[rows, blocks * lanes]`; empty if the cell has none.
    pub(crate) c: &'a mut [E],
    /// Number of rows.
    pub(crate) rows: usize,
    /// Whether to begin with the last block.
    pub(crate) backwards: bool,
}

impl<E: Element> Step<'_, E> {
    /// Runs the step with cell `C`.
    #[inline(always)]
    pub(crate) fn run<S: Simd<E>, C: Cell>(self, s: S) {
        let (w, rows) = (self.w, self.rows);
        let states = <C::State<S::V> as List<S::V>>::LEN;
        let units = w.blocks * w.lanes;
        assert_eq!((w.gates, w.lanes), (<C::Gates<S::V> as List<S::V>>::LEN, S::LANES));
        assert_eq!(w.data.len(), w.blocks * w.block_len());
        assert_eq!(self.start.len(), w.width());
        assert!(self.sums.len() >= rows * w.width());
        assert!(self.h_stride >= w.inputs && self.h_prev.len() >= rows * self.h_stride);
        // A cell without projection reads its own units of `h_prev`, padding included.
        assert!(states > 1 || self.h_stride >= units);
        assert!(self.h.len() >= rows * units);
        assert!(self.c.len() >= (states - 1) * rows * units);
        let (blocks, backwards) = (w.blocks, self.backwards);
        let mut tile = StepTile { s, step: self, cell: core::marker::PhantomData::<C> };
        // SAFETY: the lengths were just compared with the rows and blocks.
        unsafe { walk(&mut tile, rows, blocks, backwards) }
    }
}

struct StepTile<'a, E, S, C> {
    s: S,
    step: Step<'a, E>,
    cell: core::marker::PhantomData<C>,
}

impl<E: Element, S: Simd<E>, C: Cell> StepTile<'_, E, S, C> {
    /// Runs the cell on one row and block, from the products to the state.
    ///
    /// # Safety
    /// The row and block must exist.
    #[inline(always)]
    unsafe fn finish(&mut self, row: usize, block: usize, products: C::Gates<S::V>) {
        let (s, p) = (self.s, &mut self.step);
        let mut x = C::Gates::<S::V>::all(s.splat(E::ZERO));
        let mut h = products;
        for gate in 0..<C::Gates<S::V> as List<S::V>>::LEN {
            let at = (block * p.w.gates + gate) * S::LANES;
            // SAFETY: `Step::run` checked both slices against the rows and blocks.
            unsafe {
                x.as_mut()[gate] = s.load(p.sums.as_ptr().add(row * p.w.width() + at));
                let start = if C::SPLIT[gate] {
                    s.load(p.start.as_ptr().add(at))
                } else {
                    x.as_ref()[gate]
                };
                h.as_mut()[gate] = s.add(start, products.as_ref()[gate]);
            }
        }
        let unit = block * S::LANES;
        let at = row * p.w.blocks * S::LANES + unit;
        let mut state = C::State::<S::V>::all(s.splat(E::ZERO));
        // SAFETY: `Step::run` checked the slices that this cell's states need.
        unsafe {
            if <C::State<S::V> as List<S::V>>::LEN > 1 {
                state.as_mut()[1] = s.load(p.c.as_ptr().add(at));
            } else {
                state.as_mut()[0] = s.load(p.h_prev.as_ptr().add(row * p.h_stride + unit));
            }
            let next = C::forward::<E, S>(s, x, h, state);
            s.store(next.as_ref()[0], p.h.as_mut_ptr().add(at));
            if <C::State<S::V> as List<S::V>>::LEN > 1 {
                s.store(next.as_ref()[1], p.c.as_mut_ptr().add(at));
            }
        }
    }
}

impl<E: Element, S: Simd<E>, C: Cell> Tile for StepTile<'_, E, S, C> {
    const GATES: usize = <C::Gates<S::V> as List<S::V>>::LEN;
    const REGISTERS: usize = S::REGISTERS;

    #[inline(always)]
    unsafe fn run<const R: usize, const N: usize, const Q: usize>(
        &mut self,
        row: usize,
        block: usize,
    ) {
        // SAFETY: `Step::run` checked every slice against the rows and blocks.
        unsafe {
            let p = &self.step;
            let mut w = [p.w.data.as_ptr(); N];
            for n in 0..N {
                w[n] = w[n].add((block + n) * p.w.block_len());
            }
            let mut h = [p.h_prev.as_ptr(); R];
            for r in 0..R {
                h[r] = h[r].add((row + r) * p.h_stride);
            }
            let products = multiply::<_, _, _, R, N, Q>(self.s, w, h, p.w.inputs);
            for r in 0..R {
                for n in 0..N {
                    self.finish(row + r, block + n, products[r][n]);
                }
            }
        }
    }
}
