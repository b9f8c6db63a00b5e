use core::ops::Range;

use tidegate_simd::Level;

use crate::backward::Transposed;
use crate::buffer::Buffer;
use crate::cell::split_gates;
use crate::kernel::pack::{Packed, pack_bias};
use crate::{Config, Element, Tensor};

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

/// Packs one matrix anew.
pub(crate) type Repack<'a> = Box<dyn FnMut() + Send + 'a>;

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
    /// The matrices transposed, for the way back.
    pub(crate) transposed: Transposed<E>,
    /// Rows whose gate sums are computed ahead of the time loop, if a step has fewer.
    pub(crate) chunk_rows: usize,
}

impl<E: Element> Direction<E> {
    /// Packs `parameters`, in the order of [`Config::parameters`], for the vectors of `level`; the
    /// matrices as bf16 if `half`.
    pub(crate) fn new(config: &Config, parameters: &[Tensor<E>], level: Level, half: bool) -> Self {
        let parameters: Vec<_> = parameters.iter().map(Tensor::data).collect();
        Self::of(config, &parameters, level, |weight, gates, units, lanes| {
            Packed::new(weight, gates, units, lanes, half)
        })
    }

    /// As [`new`](Self::new), with matrices that are not packed.
    ///
    /// # Safety
    /// The `parameters` must stay, and nobody may write to them, as long as a scan of it runs.
    #[allow(unsafe_code, reason = "passes the caller's promise on")]
    pub(crate) unsafe fn given(config: &Config, parameters: &[&[E]], level: Level) -> Self {
        Self::of(config, parameters, level, |weight, gates, units, lanes| {
            // SAFETY: the caller's.
            unsafe { Packed::given(weight, gates, units, lanes) }
        })
    }

    /// Of `parameters`, each [`Packed`] as `matrix` says.
    fn of(
        config: &Config,
        parameters: &[&[E]],
        level: Level,
        matrix: impl Fn(&[E], usize, usize, [usize; 2]) -> Packed<E>,
    ) -> Self {
        let (gates, hidden) = (config.mode.gates(), config.hidden_size);
        let lanes = [E::lanes(level), E::low_lanes(level)];
        let pack = |at: usize| matrix(parameters[at], gates, hidden, lanes);
        let w_hr = (config.proj_size > 0).then(|| {
            let packed = matrix(parameters[parameters.len() - 1], 1, config.proj_size, lanes);
            let zeros = Buffer::zeros(packed.width());
            (packed, zeros)
        });
        let w_ih = pack(0);
        let mut direction = Self {
            chunk_rows: (CHUNK_BYTES / (w_ih.width() * size_of::<E>())).max(CHUNK_ROWS),
            w_ih,
            w_hh: pack(1),
            bias: Buffer::default(),
            bias_hh: Buffer::default(),
            w_hr,
            transposed: Transposed::default(),
        };
        direction.set_bias(config, parameters);
        direction
    }

    /// Number of multiply-adds of one row, but for a projection.
    pub(crate) fn work(&self) -> usize {
        self.w_ih.len() + self.w_hh.len()
    }

    /// Packs other parameters of the same shapes: the biases now, and what is returned is left to do, a matrix each.
    pub(crate) fn set<'a>(
        &'a mut self,
        config: &Config,
        parameters: &'a [Tensor<E>],
    ) -> impl Iterator<Item = Repack<'a>> + use<'a, E> {
        let biases: Vec<_> = parameters.iter().map(Tensor::data).collect();
        self.set_bias(config, &biases);
        let w_hr = self.w_hr.as_mut().map(|(w_hr, _)| (w_hr, parameters.len() - 1));
        let matrices = [(&mut self.w_ih, 0), (&mut self.w_hh, 1)].into_iter().chain(w_hr);
        let matrices = matrices.map(|(matrix, at)| {
            let weight = parameters[at].data();
            Box::new(move || matrix.set(weight)) as Repack<'a>
        });
        matrices.chain(self.transposed.set(config, parameters))
    }

    /// Packs the biases.
    fn set_bias(&mut self, config: &Config, parameters: &[&[E]]) {
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
