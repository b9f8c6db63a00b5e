use core::ops::Range;

use tidegate_simd::Level;

use crate::buffer::Buffer;
use crate::cell::split_gates;
use crate::kernel::pack::{Packed, Shape, Work, pack_bias};
use crate::{Config, Element};

/// Bytes of gate sums computed ahead of the time loop, where that is more than [`CHUNK_ROWS`].
///
/// Small enough to stay in a level-2 cache beside the recurrent weights, large enough to read the
/// input weights once for many rows. Measured on a Zen 5: from 64 to 768 KB no time of a call differs by
/// more than 3 %.
const CHUNK_BYTES: usize = 192 * 1024;

/// Rows of gate sums computed ahead at least: input weights that exceed the caches are read that much
/// less often. Measured on a Zen 5 with 1536 inputs and units and 8 rows: 0.74 of the time of an LSTM
/// compared with 8 rows ahead, 0.77 with 32 and 0.73 with 128.
const CHUNK_ROWS: usize = 64;

/// The parameters of one layer in one direction, packed for one instruction set, or to be packed by every product.
#[derive(Clone, Debug)]
pub(crate) struct Direction<E> {
    /// Input weights.
    pub(crate) w_ih: Packed<E>,
    /// Recurrent weights.
    pub(crate) w_hh: Packed<E>,
    /// What the input products start from: `b_ih + b_hh`, or `b_ih` alone where a gate is split.
    /// `[blocks, G, lanes]`.
    pub(crate) bias: Buffer<E>,
    /// What the recurrent products of split gates start from: `b_hh`. `[blocks, G, lanes]`.
    pub(crate) bias_hh: Buffer<E>,
    /// Projection of `h`, with the zeros that its products start from.
    pub(crate) w_hr: Option<(Packed<E>, Buffer<E>)>,
    /// Rows whose gate sums are computed ahead of the time loop, if a step has fewer.
    pub(crate) chunk_rows: usize,
}

/// The same of input weights that are not packed: every chunk packs all of them. A training step of a GRU of 1536 units, 50 steps and
/// 8 rows took 0.92 of the time of one with packed weights, as with 256 rows, and 0.96 with 64 (Ice Lake).
pub(crate) const GIVEN_CHUNK_ROWS: usize = 128;

/// `W_ih`, `W_hh` and, if there is a projection, `W_hr` among the `parameters` of one layer and direction.
pub(crate) fn weights_of<'a, E>(parameters: &[&'a [E]]) -> [&'a [E]; 3] {
    [parameters[0], parameters[1], parameters[parameters.len() - 1]]
}

impl<E: Element> Direction<E> {
    /// The `index`-th of a stack at `level`, whose [matrices](Self::matrices) `matrix` makes, by number.
    pub(crate) fn new(
        config: &Config,
        index: usize,
        level: Level,
        mut matrix: impl FnMut(usize, Shape) -> Packed<E>,
    ) -> Self {
        let inputs = config.layer_input_size(index / config.num_directions());
        let lanes = [E::lanes(level), E::low_lanes(level)];
        let of_gates = |inputs| {
            let (gates, units) = (config.mode.gates(), config.hidden_size);
            Shape { gates, units, inputs, lanes }
        };
        let w_ih = matrix(0, of_gates(inputs));
        let w_hh = matrix(1, of_gates(config.output_size()));
        let w_hr = (config.proj_size > 0).then(|| {
            let (units, inputs) = (config.proj_size, config.hidden_size);
            let packed = matrix(2, Shape { gates: 1, units, inputs, lanes });
            let zeros = Buffer::zeros(packed.width());
            (packed, zeros)
        });
        Self {
            chunk_rows: (CHUNK_BYTES / (w_ih.width() * size_of::<E>())).max(
                match w_ih.is_given() {
                    true => GIVEN_CHUNK_ROWS,
                    false => CHUNK_ROWS,
                },
            ),
            w_ih,
            w_hh,
            bias: Buffer::default(),
            bias_hh: Buffer::default(),
            w_hr,
        }
    }

    /// Number of multiply-adds of one row, but for a projection.
    pub(crate) fn work(&self) -> usize {
        self.w_ih.len() + self.w_hh.len()
    }

    /// Its matrices: `W_ih`, `W_hh`, and `W_hr` if there is a projection.
    pub(crate) fn matrices(&mut self) -> impl Iterator<Item = &mut Packed<E>> {
        let w_hr = self.w_hr.as_mut().map(|(w_hr, _)| w_hr);
        [&mut self.w_ih, &mut self.w_hh].into_iter().chain(w_hr)
    }

    /// Packs `parameters`, in the order of [`Config::parameters`]: the biases now; adds to `works` what is left to do.
    pub(crate) fn set<'a>(
        &'a mut self,
        config: &Config,
        parameters: &[&'a [E]],
        works: &mut Vec<Work<'a>>,
    ) {
        self.set_bias(config, parameters);
        for (matrix, weight) in self.matrices().zip(weights_of(parameters)) {
            if !matrix.is_given() {
                matrix.pack(weight, works);
            }
        }
    }

    /// Packs the biases.
    pub(crate) fn set_bias(&mut self, config: &Config, parameters: &[&[E]]) {
        let form = [config.mode.gates(), config.hidden_size, self.w_ih.lanes];
        let (b_ih, b_hh) = match config.bias {
            true => (parameters[2], parameters[3]),
            false => (&[][..], &[][..]),
        };
        let hidden = config.hidden_size;
        let [b_ih, b_hh] = [b_ih, b_hh].map(|bias| {
            move |gate, unit| bias.get(gate * hidden + unit).copied().unwrap_or(E::ZERO)
        });
        let split = split_gates(config.mode);
        pack_bias(form, &mut self.bias, |gate, unit| match split[gate] {
            true => b_ih(gate, unit),
            false => b_ih(gate, unit) + b_hh(gate, unit),
        });
        pack_bias(form, &mut self.bias_hh, b_hh);
    }

    /// Lays out the weights for steps of `rows` rows, so that the first one need not.
    pub(crate) fn prepare(&self, rows: usize) {
        let projection = self.w_hr.iter().map(|(w_hr, _)| w_hr);
        for w in [&self.w_ih, &self.w_hh].into_iter().chain(projection) {
            w.prepare(rows == 1);
        }
    }

    /// Elements of a row of `c`, and of `h` before projection: whole vectors.
    pub(crate) fn units(&self) -> usize {
        self.w_hh.blocks * self.w_hh.lanes
    }

    /// The units of `blocks`, without padding, of `hidden_size` in all.
    pub(crate) fn units_of(&self, blocks: &Range<usize>, hidden_size: usize) -> Range<usize> {
        let lanes = self.w_hh.lanes;
        (blocks.start * lanes).min(hidden_size)..(blocks.end * lanes).min(hidden_size)
    }

    /// Elements of a row of `h`: whole vectors.
    pub(crate) fn h_stride(&self) -> usize {
        self.w_hr.as_ref().map_or(self.units(), |(w_hr, _)| w_hr.width())
    }
}
