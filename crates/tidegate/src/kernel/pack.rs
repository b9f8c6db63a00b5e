use tidegate_simd::{Bf16, Element};

use super::stored::{Full, Half, Layouts, Stored, Weights};
use crate::buffer::Buffer;

/// A weight matrix laid out in the order in which the product reads it.
///
/// Hidden units come in blocks of as many as a vector has lanes. A block holds, for each input,
/// one vector per gate: shape `[blocks, K, G, lanes]`. One broadcast of an input feeds all
/// gates of a block, and the cell's arithmetic runs straight from the accumulators. The last
/// block is filled up with zeros.
///
/// For a row alone the inputs lie in another order, in a copy that is made when it is first wanted.
#[derive(Clone, Debug)]
pub(crate) struct Packed<E> {
    /// The elements.
    pub(super) weights: Weights<E>,
    /// Number of blocks of units.
    pub(crate) blocks: usize,
    /// Number of inputs, `K`.
    pub(crate) inputs: usize,
    /// Number of gates, `G`.
    pub(crate) gates: usize,
    /// Units in a block.
    pub(crate) lanes: usize,
}

impl<E: Element> Packed<E> {
    /// Packs `weight: [G * units, K]`, PyTorch's layout, for vectors of `lanes`; as bf16 if `half`.
    pub(crate) fn new(weight: &[E], gates: usize, units: usize, lanes: usize, half: bool) -> Self {
        let rows = gates * units;
        let inputs = weight.len() / rows;
        assert_eq!(weight.len(), rows * inputs, "a matrix of whole rows");
        let (blocks, shape) = (units.div_ceil(lanes), [gates, units, lanes]);
        let weights = match half {
            false => Weights::Full(Layouts::new(packed(weight, shape, |w| w))),
            true => {
                let bf16 = |w: E| Bf16::from_f32(w.to_f64() as f32);
                Weights::Half(Layouts::new(packed(weight, shape, bf16)))
            }
        };
        Self { weights, blocks, inputs, gates, lanes }
    }

    /// Packs the transpose of `weight: [rows, outputs]`, of which row `row_of(k)` holds the weights of
    /// input `k`, of `inputs`.
    pub(crate) fn transposed(
        weight: &[E],
        outputs: usize,
        inputs: usize,
        row_of: impl Fn(usize) -> usize,
        lanes: usize,
    ) -> Self {
        let blocks = outputs.div_ceil(lanes);
        let mut data = Buffer::zeros(blocks * inputs * lanes);
        for (block, data) in data.chunks_exact_mut(inputs * lanes).enumerate() {
            let first = block * lanes;
            let count = (outputs - first).min(lanes);
            for (k, to) in data.chunks_exact_mut(lanes).enumerate() {
                to[..count].copy_from_slice(&weight[row_of(k) * outputs + first..][..count]);
            }
        }
        let weights = Weights::Full(Layouts::new(data));
        Self { weights, blocks, inputs, gates: 1, lanes }
    }

    /// Lays the elements out for products whose rows are one `alone`, or more.
    pub(crate) fn prepare(&self, alone: bool) {
        match &self.weights {
            Weights::Full(_) => _ = self.for_rows::<Full>(alone),
            Weights::Half(_) => _ = self.for_rows::<Half>(alone),
        }
    }

    /// The elements in the order in which a product reads them whose rows are one `alone`, or more.
    #[inline(always)]
    pub(super) fn for_rows<W: Stored<E>>(&self, alone: bool) -> &[W::Item] {
        W::layouts(&self.weights).for_rows(alone, self.inputs, self.gates * self.lanes)
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

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        match &self.weights {
            Weights::Full(layouts) => layouts.len(),
            Weights::Half(layouts) => layouts.len(),
        }
    }

    /// Elements of one row of sums: `blocks * G * lanes`.
    pub(crate) fn width(&self) -> usize {
        self.blocks * self.gates * self.lanes
    }
}

/// Packs one value per gate and unit, `bias: [G * units]`, as `[blocks, G, lanes]`.
pub(crate) fn pack_bias<E: Element>(
    bias: &[E],
    gates: usize,
    units: usize,
    lanes: usize,
) -> Buffer<E> {
    // A bias is the weight of a single input.
    packed(bias, [gates, units, lanes], |b| b)
}

/// `weight: [G * units, K]` as `[blocks, K, G, lanes]`, each element as `item` says.
fn packed<E: Copy, T: Copy + Default>(
    weight: &[E],
    [gates, units, lanes]: [usize; 3],
    item: impl Fn(E) -> T,
) -> Buffer<T> {
    let inputs = weight.len() / (gates * units);
    let mut data = Buffer::zeros(units.div_ceil(lanes) * inputs * gates * lanes);
    for (row, weight) in weight.chunks_exact(inputs).enumerate() {
        let (gate, unit) = (row / units, row % units);
        let (block, lane) = (unit / lanes, unit % lanes);
        let first = (block * inputs * gates + gate) * lanes + lane;
        for (k, &w) in weight.iter().enumerate() {
            data[first + k * gates * lanes] = item(w);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_of_a_unit_lie_in_one_block() {
        // Two gates, three units, two inputs: w[gate, unit, k] = 100 gate + 10 unit + k.
        let weight: Vec<f32> =
            [0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121].map(|w| w as f32).to_vec();
        let packed = Packed::new(&weight, 2, 3, 2, false);
        assert_eq!((packed.blocks, packed.inputs, packed.width()), (2, 2, 8));
        let want = [
            [0, 10, 100, 110, 1, 11, 101, 111], // units 0 and 1: k = 0, then k = 1
            [20, 0, 120, 0, 21, 0, 121, 0],     // unit 2 and padding
        ];
        let want: Vec<f32> = want.concat().iter().map(|&w| w as f32).collect();
        assert_eq!(packed.for_rows::<Full>(false), &want[..]);
    }
}
