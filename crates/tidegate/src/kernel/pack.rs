#![allow(unsafe_code, reason = "weights of the caller are read through pointers")]

use core::ops::Range;

use tidegate_simd::{Bf16, Element};

use super::chains::Division;
use super::stored::{BlockForm, Full, Given, Half, Layouts, Stored, Weights};
use crate::buffer::Buffer;

/// A weight matrix laid out in the order in which the product reads it.
///
/// Hidden units come in blocks of as many as a vector has lanes. A block holds, for each input,
/// one vector per gate: shape `[blocks, K, G, lanes]`. One broadcast of an input feeds all
/// gates of a block, and the cell's arithmetic runs straight from the accumulators. The last
/// block is filled up with zeros.
///
/// For a row alone the inputs lie in another order, in a copy that is made when it is first wanted. There the vectors of
/// a last block whose units fit into half of one are halves: a step reads that much less.
#[derive(Clone, Debug)]
pub(crate) struct Packed<E> {
    /// The elements.
    pub(super) weights: Weights<E>,
    /// The blocks that these are of: all, but of a matrix that is not packed.
    pub(super) held: Range<usize>,
    /// Number of blocks of units.
    pub(crate) blocks: usize,
    /// Number of inputs, `K`.
    pub(crate) inputs: usize,
    /// How they are divided among the chains of a sum.
    pub(super) division: Division,
    /// Number of gates, `G`.
    pub(crate) gates: usize,
    /// Units in a block.
    pub(crate) lanes: usize,
    /// Number of units, without padding.
    units: usize,
    /// Lanes of the last block in the copy for a row alone.
    last_lanes: usize,
}

impl<E: Element> Packed<E> {
    /// Packs `weight: [G * units, K]`, PyTorch's layout, for vectors and half vectors of so many lanes; as bf16 if
    /// `half`.
    pub(crate) fn new(
        weight: &[E],
        gates: usize,
        units: usize,
        lanes: [usize; 2],
        half: bool,
    ) -> Self {
        // SAFETY: it holds them as they are for a moment only.
        let mut packed = unsafe { Self::given(weight, gates, units, lanes) };
        let len = packed.len();
        packed.weights = match half {
            false => Weights::Full(Layouts::new(Buffer::zeros(len))),
            true => Weights::Half(Layouts::new(Buffer::zeros(len))),
        };
        packed.held = 0..packed.blocks;
        packed.set(weight);
        packed
    }

    /// `weight` as it is, of which every product packs what it reads ([`super::room`]).
    ///
    /// # Safety
    /// `weight` must stay, and nobody may write to it, as long as products read it.
    pub(crate) unsafe fn given(
        weight: &[E],
        gates: usize,
        units: usize,
        [lanes, low_lanes]: [usize; 2],
    ) -> Self {
        let rows = gates * units;
        let inputs = weight.len() / rows;
        assert_eq!(weight.len(), rows * inputs, "a matrix of whole rows");
        let blocks = units.div_ceil(lanes);
        let division = Division::of(inputs);
        // Blocks of one gate are read several at a time, which are whole.
        let last_is_low = gates > 1 && units + low_lanes <= blocks * lanes;
        let last_lanes = if last_is_low { low_lanes } else { lanes };
        let (weights, held) = (Weights::Given(Given::new(weight)), 0..0);
        Self { weights, held, blocks, inputs, division, gates, lanes, units, last_lanes }
    }

    /// Whether it is not packed.
    #[inline(always)]
    pub(crate) fn is_given(&self) -> bool {
        matches!(self.weights, Weights::Given(_))
    }

    /// Whether the weights of all of `blocks` are packed.
    #[inline(always)]
    pub(super) fn holds(&self, blocks: &Range<usize>) -> bool {
        blocks.is_empty() || (self.held.start <= blocks.start && blocks.end <= self.held.end)
    }

    /// Packs other weights of the same shape.
    pub(crate) fn set(&mut self, weight: &[E]) {
        let shape = [self.gates, weight.len() / (self.gates * self.inputs), self.lanes];
        let form = self.block_form();
        match &mut self.weights {
            Weights::Full(layouts) => layouts.set(form, |data| pack(weight, shape, data, |w| w)),
            Weights::Half(layouts) => {
                let bf16 = |w: E| Bf16::from_f32(w.to_f64() as f32);
                layouts.set(form, |data| pack(weight, shape, data, bf16));
            }
            Weights::Given(_) | Weights::Held(_) => unreachable!("made by `new`"),
        }
    }

    /// A matrix of zeros, for [`set_transposed`](Self::set_transposed).
    pub(crate) fn zeros(outputs: usize, inputs: usize, lanes: usize) -> Self {
        let blocks = outputs.div_ceil(lanes);
        let weights = Weights::Full(Layouts::new(Buffer::zeros(blocks * inputs * lanes)));
        let division = Division::of(inputs);
        let (held, gates, units, last_lanes) = (0..blocks, 1, outputs, lanes);
        Self { weights, held, blocks, inputs, division, gates, lanes, units, last_lanes }
    }

    /// Packs the transpose of `weight: [rows, outputs]`, of which row `row_of(k)` holds the weights of
    /// input `k`.
    pub(crate) fn set_transposed(
        &mut self,
        weight: &[E],
        outputs: usize,
        row_of: impl Fn(usize) -> usize,
    ) {
        let (inputs, lanes) = (self.inputs, self.lanes);
        let form = self.block_form();
        let Weights::Full(layouts) = &mut self.weights else { unreachable!("made by `zeros`") };
        layouts.set(form, |data| {
            for (block, data) in data.chunks_exact_mut(inputs * lanes).enumerate() {
                let first = block * lanes;
                let count = (outputs - first).min(lanes);
                for (k, to) in data.chunks_exact_mut(lanes).enumerate() {
                    to[..count].copy_from_slice(&weight[row_of(k) * outputs + first..][..count]);
                }
            }
        });
    }

    /// Lays the elements out for products whose rows are one `alone`, or more.
    pub(crate) fn prepare(&self, alone: bool) {
        match &self.weights {
            Weights::Full(_) => _ = self.for_rows::<Full>(alone),
            Weights::Half(_) => _ = self.for_rows::<Half>(alone),
            Weights::Given(_) | Weights::Held(_) => {}
        }
    }

    /// The elements in the order in which a product reads them whose rows are one `alone`, or more.
    #[inline(always)]
    pub(super) fn for_rows<W: Stored<E>>(&self, alone: bool) -> &[W::Item] {
        W::items(&self.weights, alone, self.block_form())
    }

    /// What a block is made up of.
    #[inline(always)]
    fn block_form(&self) -> BlockForm {
        let Self { inputs, gates, lanes, last_lanes, .. } = *self;
        BlockForm { inputs, gates, lanes, last_lanes }
    }

    /// Whether they are kept as bf16.
    #[inline(always)]
    pub(super) fn is_half(&self) -> bool {
        matches!(self.weights, Weights::Half(_))
    }

    /// Bytes of the elements.
    pub(crate) fn bytes(&self) -> usize {
        self.len() * if self.is_half() { size_of::<Bf16>() } else { size_of::<E>() }
    }

    /// Number of elements, with padding.
    pub(crate) fn len(&self) -> usize {
        self.width() * self.inputs
    }

    /// Bytes of what is packed.
    #[inline(always)]
    pub(super) fn held_bytes(&self) -> usize {
        let item = if self.is_half() { size_of::<Bf16>() } else { size_of::<E>() };
        self.held.len() * self.block_len() * item
    }

    /// This matrix, of which `block` alone is there, packed as `items`.
    pub(super) fn holding(&self, block: usize, items: Buffer<E>) -> Self {
        let Self { blocks, inputs, division, gates, lanes, units, last_lanes, .. } = *self;
        let (weights, held) = (Weights::Held(items), block..block + 1);
        Self { weights, held, blocks, inputs, division, gates, lanes, units, last_lanes }
    }

    /// Units of `block`, without padding.
    pub(super) fn units_of(&self, block: usize) -> Range<usize> {
        block * self.lanes..((block + 1) * self.lanes).min(self.units)
    }

    /// Lanes of a vector of `block`, packed for a row `alone` or for more.
    pub(super) fn lanes_of(&self, block: usize, alone: bool) -> usize {
        if alone && block + 1 == self.blocks { self.last_lanes } else { self.lanes }
    }

    /// Elements of a block.
    #[inline(always)]
    pub(super) fn block_len(&self) -> usize {
        self.inputs * self.gates * self.lanes
    }

    /// Units in the last block, without padding.
    pub(super) fn units_of_last(&self) -> usize {
        self.units - self.blocks.saturating_sub(1) * self.lanes
    }

    /// Elements of one row of sums: `blocks * G * lanes`.
    pub(crate) fn width(&self) -> usize {
        self.blocks * self.gates * self.lanes
    }
}

/// Packs one value per gate and unit, `value(gate, unit)`, as `[blocks, G, lanes]`.
pub(crate) fn pack_bias<E: Element>(
    [gates, units, lanes]: [usize; 3],
    to: &mut Buffer<E>,
    value: impl Fn(usize, usize) -> E,
) {
    to.reserve(units.div_ceil(lanes) * gates * lanes);
    for (vector, to) in to.chunks_exact_mut(lanes).enumerate() {
        let (block, gate) = (vector / gates, vector % gates);
        let of_block = block * lanes..((block + 1) * lanes).min(units);
        for (to, unit) in to.iter_mut().zip(of_block) {
            *to = value(gate, unit);
        }
    }
}

/// Writes `weight: [G * units, K]` to `data: [blocks, K, G, lanes]`, each element as `item` says; lanes past
/// the last unit are left as they are.
fn pack<E: Copy, T: Copy>(
    weight: &[E],
    [gates, units, lanes]: [usize; 3],
    data: &mut [T],
    item: impl Fn(E) -> T,
) {
    let inputs = weight.len() / (gates * units);
    assert!(lanes <= TILE);
    let Some(&any) = weight.first() else { return };
    let mut tile = [[any; TILE]; TILE];
    for (block, data) in data.chunks_exact_mut(inputs * gates * lanes).enumerate() {
        let unit = block * lanes;
        let count = (units - unit).min(lanes);
        for gate in 0..gates {
            // The rows of a block's units.
            let rows = &weight[(gate * units + unit) * inputs..][..count * inputs];
            for first in (0..inputs).step_by(TILE) {
                let columns = first..(first + TILE).min(inputs);
                for (from, to) in rows.chunks_exact(inputs).zip(&mut tile) {
                    match from[columns.clone()].first_chunk() {
                        Some(whole) => *to = *whole,
                        None => to[..columns.len()].copy_from_slice(&from[columns.clone()]),
                    }
                }
                for (k, column) in columns.enumerate() {
                    let to = &mut data[(column * gates + gate) * lanes..][..count];
                    for (to, from) in to.iter_mut().zip(&tile) {
                        *to = item(from[k]);
                    }
                }
            }
        }
    }
}

/// Rows and columns of a matrix that are packed together: a cache line of `f32`, and as many units as the
/// longest vector has lanes. Element by element down the columns of the matrix it took five times as long.
const TILE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_of_a_unit_lie_in_one_block() {
        // Two gates, three units, two inputs: w[gate, unit, k] = 100 gate + 10 unit + k.
        let weight: Vec<f32> =
            [0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121].map(|w| w as f32).to_vec();
        let packed = Packed::new(&weight, 2, 3, [2, 2], false);
        assert_eq!((packed.blocks, packed.inputs, packed.width()), (2, 2, 8));
        let want = [
            [0, 10, 100, 110, 1, 11, 101, 111], // units 0 and 1: k = 0, then k = 1
            [20, 0, 120, 0, 21, 0, 121, 0],     // unit 2 and padding
        ];
        let want: Vec<f32> = want.concat().iter().map(|&w| w as f32).collect();
        assert_eq!(packed.for_rows::<Full>(false), &want[..]);
    }

    #[test]
    fn for_a_row_alone_a_last_block_of_few_units_is_made_of_half_vectors() {
        // The same for five units in vectors of four: the fifth one needs half a vector of two.
        let weight =
            [0, 1].map(|gate| [0, 1, 2, 3, 4].map(|u| [0, 1].map(|k| 100 * gate + 10 * u + k)));
        let weight: Vec<f32> = weight.concat().concat().iter().map(|&w| w as f32).collect();
        let mut packed = Packed::new(&weight, 2, 5, [4, 2], false);
        let first = [0, 10, 20, 30, 100, 110, 120, 130, 1, 11, 21, 31, 101, 111, 121, 131];
        let last = [40, 0, 140, 0, 41, 0, 141, 0];
        let want = |add: i32| -> Vec<f32> {
            let of_units = |&w: &i32| if w == 0 { 0.0 } else { (w + add) as f32 };
            let first = first.iter().map(|&w| (w + add) as f32);
            first.chain(last.iter().map(of_units)).chain([0.0; 8]).collect()
        };
        assert_eq!(packed.for_rows::<Full>(true), want(0));
        // Whole vectors where as many rows read them, and where a unit more needs the other half.
        assert_eq!(
            packed.for_rows::<Full>(false)[16..],
            [40, 0, 0, 0, 140, 0, 0, 0, 41, 0, 0, 0, 141, 0, 0, 0].map(|w| w as f32)
        );
        packed.set(&weight.iter().map(|w| w + 1000.0).collect::<Vec<_>>());
        assert_eq!(packed.for_rows::<Full>(true), want(1000));
        let seven = Packed::new(&[1.0; 2 * 7 * 2], 2, 7, [4, 2], false);
        assert_eq!(seven.for_rows::<Full>(true), seven.for_rows::<Full>(false));
    }
}
