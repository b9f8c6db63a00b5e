use tidegate_simd::Element;

use super::chains::Division;
use crate::buffer::Buffer;

/// A weight matrix laid out in the order in which the product reads it.
///
/// Hidden units come in blocks of as many as a vector has lanes. A block holds, for each input,
/// one vector per gate: shape `[blocks, K, G, lanes]`, with the inputs in the order of
/// [`Division::order`]. One broadcast of an input feeds all
/// gates of a block, and the cell's arithmetic runs straight from the accumulators. The last
/// block is filled up with zeros.
#[derive(Clone, Debug)]
pub(crate) struct Packed<E> {
    /// The elements, `[blocks, K, G, lanes]`.
    pub(crate) data: Buffer<E>,
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
    /// Packs `weight: [G * units, K]`, PyTorch's layout, for vectors of `lanes`.
    pub(crate) fn new(weight: &[E], gates: usize, units: usize, lanes: usize) -> Self {
        let rows = gates * units;
        let inputs = weight.len() / rows;
        assert_eq!(weight.len(), rows * inputs, "a matrix of whole rows");
        let blocks = units.div_ceil(lanes);
        let mut data = Buffer::zeros(blocks * inputs * gates * lanes);
        let order: Vec<usize> = Division::of(inputs).order().collect();
        for (row, weight) in weight.chunks_exact(inputs).enumerate() {
            let (gate, unit) = (row / units, row % units);
            let (block, lane) = (unit / lanes, unit % lanes);
            let first = (block * inputs * gates + gate) * lanes + lane;
            for (at, &k) in order.iter().enumerate() {
                data[first + at * gates * lanes] = weight[k];
            }
        }
        Self { data, blocks, inputs, gates, lanes }
    }

    /// Elements of one row of sums: `blocks * G * lanes`.
    pub(crate) fn width(&self) -> usize {
        self.blocks * self.gates * self.lanes
    }

    /// Elements of one block.
    pub(crate) fn block_len(&self) -> usize {
        self.inputs * self.gates * self.lanes
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
    Packed::new(bias, gates, units, lanes).data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_of_a_unit_lie_in_one_block() {
        // Two gates, three units, two inputs: w[gate, unit, k] = 100 gate + 10 unit + k.
        let weight: Vec<f32> =
            [0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121].map(|w| w as f32).to_vec();
        let packed = Packed::new(&weight, 2, 3, 2);
        assert_eq!((packed.blocks, packed.inputs, packed.width()), (2, 2, 8));
        let want = [
            [0, 10, 100, 110, 1, 11, 101, 111], // units 0 and 1: k = 0, then k = 1
            [20, 0, 120, 0, 21, 0, 121, 0],     // unit 2 and padding
        ];
        let want: Vec<f32> = want.concat().iter().map(|&w| w as f32).collect();
        assert_eq!(*packed.data, want[..]);
    }
}
