#![allow(unsafe_code, reason = "weights of the caller are read through pointers")]

use core::ops::Range;

use tidegate_simd::{Bf16, Element};

use super::chains::Division;
pub(crate) use super::stored::Layouts;
use super::stored::{BlockForm, Full, Given, Half, Stored, Weights};
pub(crate) use super::works::{Work, pack_bias};
use super::works::{add, pack};
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
    /// `weight: [G * units, K]` as it is, of which every product packs what it reads ([`super::room`]).
    ///
    /// # Safety
    /// `weight` must stay, and nobody may write to it, as long as products read it.
    pub(crate) unsafe fn given(weight: &[E], shape: Shape) -> Self {
        assert_eq!(weight.len(), shape.gates * shape.units * shape.inputs, "all weights");
        Self { weights: Weights::Given(Given::new(weight)), ..Self::empty(shape) }
    }

    /// To be packed by [`pack`](Self::pack), or [`pack_transposed`](Self::pack_transposed), in the memory of `layouts`.
    pub(crate) fn within(layouts: Layouts<E>, shape: Shape) -> Self {
        let mut packed = Self::empty(shape);
        let layouts = layouts.reshaped(packed.block_form(), packed.len());
        packed.weights = Weights::Full(layouts);
        packed.held = 0..packed.blocks;
        packed
    }

    /// To be packed as bf16.
    pub(crate) fn half(shape: Shape) -> Self {
        let mut packed = Self::empty(shape);
        let layouts = Layouts::default().reshaped(packed.block_form(), packed.len());
        packed.weights = Weights::Half(layouts);
        packed.held = 0..packed.blocks;
        packed
    }

    /// Without weights.
    pub(crate) fn empty(Shape { gates, units, inputs, lanes: [lanes, low_lanes] }: Shape) -> Self {
        let blocks = units.div_ceil(lanes);
        let division = Division::of(inputs);
        // Blocks of one gate are read several at a time, which are whole.
        let last_is_low = gates > 1 && units + low_lanes <= blocks * lanes;
        let last_lanes = if last_is_low { low_lanes } else { lanes };
        let (weights, held) = (Weights::Held(Buffer::default()), 0..0);
        Self { weights, held, blocks, inputs, division, gates, lanes, units, last_lanes }
    }

    /// Its memory, for another matrix; the weights are gone.
    pub(crate) fn take_memory(&mut self) -> Layouts<E> {
        self.held = 0..0;
        match core::mem::replace(&mut self.weights, Weights::Held(Buffer::default())) {
            Weights::Full(layouts) => layouts,
            _ => Layouts::default(),
        }
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

    /// Adds to `works` what is to be done to pack `weight: [G * units, K]`, PyTorch's layout. Only inside of
    /// [`or_error`](crate::memory::or_error).
    pub(crate) fn pack<'a>(&'a mut self, weight: &'a [E], works: &mut Vec<Work<'a>>) {
        let shape = [self.gates, self.units, self.inputs, self.lanes];
        let form = self.block_form();
        match &mut self.weights {
            Weights::Full(layouts) => add(works, layouts.parts(form), move |first, items| {
                pack(weight, shape, first, items, |w| w);
            }),
            Weights::Half(layouts) => add(works, layouts.parts(form), move |first, items| {
                pack(weight, shape, first, items, |w: E| Bf16::from_f32(w.to_f64() as f32));
            }),
            Weights::Given(_) | Weights::Held(_) => unreachable!("no room to pack in"),
        }
    }

    /// The same for the transpose of `weight: [rows, units]`, of which row `row_of(k)` holds the weights of input `k`.
    pub(crate) fn pack_transposed<'a>(
        &'a mut self,
        weight: &'a [E],
        row_of: impl Fn(usize) -> usize + Copy + Send + 'a,
        works: &mut Vec<Work<'a>>,
    ) {
        let (inputs, lanes, outputs) = (self.inputs, self.lanes, self.units);
        let form = self.block_form();
        let Weights::Full(layouts) = &mut self.weights else { unreachable!("no room to pack in") };
        add(works, layouts.parts(form), move |first, items| {
            for (block, items) in items.chunks_exact_mut(inputs * lanes).enumerate() {
                let first = (first + block) * lanes;
                let count = (outputs - first).min(lanes);
                for (k, to) in items.chunks_exact_mut(lanes).enumerate() {
                    to[..count].copy_from_slice(&weight[row_of(k) * outputs + first..][..count]);
                }
            }
        })
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

/// The shape of a weight `[gates * units, inputs]`, and of the vectors it is packed for.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) gates: usize,
    pub(crate) units: usize,
    pub(crate) inputs: usize,
    /// Of a vector, and of half a vector.
    pub(crate) lanes: [usize; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { gates: 2, units: 3, inputs: 2, lanes: [2, 2] };

    /// `weight` packed in the memory of `layouts`.
    fn within(layouts: Layouts<f32>, weight: &[f32], shape: Shape) -> Packed<f32> {
        let (mut packed, mut works) = (Packed::within(layouts, shape), Vec::new());
        packed.pack(weight, &mut works);
        assert!(weight.len() < 200_000 || works.len() > 1);
        works.into_iter().for_each(|work| work());
        packed
    }

    fn packed(weight: &[f32], shape: Shape) -> Packed<f32> {
        within(Layouts::default(), weight, shape)
    }

    #[test]
    fn gates_of_a_unit_lie_in_one_block() {
        // Two gates, three units, two inputs: w[gate, unit, k] = 100 gate + 10 unit + k.
        let weight: Vec<f32> =
            [0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121].map(|w| w as f32).to_vec();
        let packed = packed(&weight, SHAPE);
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
        let five = Shape { units: 5, lanes: [4, 2], ..SHAPE };
        let of_five = packed(&weight, five);
        let first = [0, 10, 20, 30, 100, 110, 120, 130, 1, 11, 21, 31, 101, 111, 121, 131];
        let last = [40, 0, 140, 0, 41, 0, 141, 0];
        let want = |add: i32| -> Vec<f32> {
            let of_units = |&w: &i32| if w == 0 { 0.0 } else { (w + add) as f32 };
            let first = first.iter().map(|&w| (w + add) as f32);
            first.chain(last.iter().map(of_units)).chain([0.0; 8]).collect()
        };
        assert_eq!(of_five.for_rows::<Full>(true), want(0));
        // Whole vectors where as many rows read them, and where a unit more needs the other half.
        assert_eq!(
            of_five.for_rows::<Full>(false)[16..],
            [40, 0, 0, 0, 140, 0, 0, 0, 41, 0, 0, 0, 141, 0, 0, 0].map(|w| w as f32)
        );
        let seven = packed(&[1.0; 2 * 7 * 2], Shape { units: 7, ..five });
        assert_eq!(seven.for_rows::<Full>(true), seven.for_rows::<Full>(false));
    }

    /// In several parts, and with both orders there.
    #[test]
    fn what_was_packed_in_the_same_memory_before_leaves_no_trace() {
        let weight = |shape: Shape, first: usize| -> Vec<f32> {
            let count = shape.gates * shape.units * shape.inputs;
            (first..first + count).map(|w| w as f32).collect()
        };
        let lanes = [16, 8];
        let wide = Shape { gates: 4, units: 100, inputs: 701, lanes };
        let narrow = Shape { gates: 3, units: 70, inputs: 300, lanes };
        let transposed = Shape { gates: 1, units: 85, inputs: 400, lanes: [16, 16] };
        let mut layouts = Layouts::default();
        for (first, shape) in [wide, narrow, wide, transposed, narrow].into_iter().enumerate() {
            let weight = weight(shape, first);
            let (mut reused, fresh) = (within(layouts, &weight, shape), packed(&weight, shape));
            for alone in [false, true] {
                // Of parts of vectors there are as many, and fewer elements.
                let lanes = fresh.lanes_of(fresh.blocks - 1, alone);
                let there = fresh.len() - fresh.block_len() / fresh.lanes * (fresh.lanes - lanes);
                let [reused, fresh] =
                    [&reused, &fresh].map(|w| &w.for_rows::<Full>(alone)[..there]);
                assert!(reused == fresh, "{shape:?}, alone: {alone}");
            }
            layouts = reused.take_memory();
        }
    }

    #[test]
    fn a_transposed_matrix_is_packed_as_one_that_was_transposed_before() {
        let (rows, outputs) = (90, 53); // of which every other row counts
        let weight: Vec<f32> = (0..rows * outputs).map(|w| w as f32).collect();
        let shape = Shape { gates: 1, units: outputs, inputs: rows / 2, lanes: [16, 16] };
        let mut got = Packed::within(Layouts::default(), shape);
        let mut works = Vec::new();
        got.pack_transposed(&weight, |k| 2 * k, &mut works);
        works.into_iter().for_each(|work| work());
        let before: Vec<f32> = (0..outputs)
            .flat_map(|j| (0..rows / 2).map(move |k| (2 * k, j)))
            .map(|(row, j)| weight[row * outputs + j])
            .collect();
        let want = packed(&before, shape);
        assert_eq!(got.for_rows::<Full>(false), want.for_rows::<Full>(false));
    }
}
