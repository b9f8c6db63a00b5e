use std::sync::OnceLock;

use tidegate_simd::Element;

use super::chains::Division;
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
    /// The elements, `[blocks, K, G, lanes]`.
    data: Buffer<E>,
    /// The same with the inputs in the order of [`Division::order`].
    for_one: OnceLock<Buffer<E>>,
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
        for (row, weight) in weight.chunks_exact(inputs).enumerate() {
            let (gate, unit) = (row / units, row % units);
            let (block, lane) = (unit / lanes, unit % lanes);
            let first = (block * inputs * gates + gate) * lanes + lane;
            for (k, &w) in weight.iter().enumerate() {
                data[first + k * gates * lanes] = w;
            }
        }
        Self { data, for_one: OnceLock::new(), blocks, inputs, gates, lanes }
    }

    /// The elements in the order in which a product reads them whose rows are one `alone`, or more.
    #[inline(always)]
    pub(crate) fn for_rows(&self, alone: bool) -> &[E] {
        if alone { self.for_one.get_or_init(|| self.ordered()) } else { &self.data }
    }

    /// A copy with the inputs of each block in the order of [`Division::order`].
    #[cold]
    fn ordered(&self) -> Buffer<E> {
        let mut copy = Buffer::zeros(self.len());
        let (block, vectors) = (self.inputs * self.gates * self.lanes, self.gates * self.lanes);
        for at in (0..self.len()).step_by(block) {
            let (from, to) = (&self.data[at..][..block], &mut copy[at..][..block]);
            for (to, k) in to.chunks_exact_mut(vectors).zip(Division::of(self.inputs).order()) {
                to.copy_from_slice(&from[k * vectors..][..vectors]);
            }
        }
        copy
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
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
