//! The weights as the way back reads them.

use std::sync::OnceLock;

use crate::buffer::Buffer;
use crate::cell::{Window, windows};
use crate::kernel::pack::Packed;
use crate::{Config, Element, Tensor};

/// Bytes of a cache line.
const LINE: usize = 64;

/// A row of derivatives by the gates' sums: all units of a value, then those of the next.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Deltas {
    /// Number of hidden units.
    pub(crate) units: usize,
    /// The values by the recurrent halves.
    pub(crate) recurrent: Window,
    /// The values by the input halves.
    pub(crate) input: Window,
    /// Elements from one row to the next: an odd number of cache lines, so that the same column of many
    /// rows is spread over all sets of a cache.
    pub(crate) stride: usize,
}

impl Deltas {
    pub(crate) fn of<E: Element>(config: &Config) -> Self {
        let (values, [recurrent, input]) = windows(config.mode);
        let (units, line) = (config.hidden_size, LINE / size_of::<E>());
        let lines = (values * units).div_ceil(line) | 1;
        Self { units, recurrent, input, stride: lines * line }
    }
}

/// The transposed weights of one layer and direction, each made when first wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transposed<E> {
    w_ih: OnceLock<(Packed<E>, Buffer<E>)>,
    w_hh: OnceLock<(Packed<E>, Buffer<E>)>,
    w_hr: OnceLock<(Packed<E>, Buffer<E>)>,
}

impl<E: Element> Transposed<E> {
    /// `W_ih^T`, with the zeros that its products start from.
    pub(crate) fn w_ih(
        &self,
        parameters: &[Tensor<E>],
        deltas: &Deltas,
        lanes: usize,
    ) -> &(Packed<E>, Buffer<E>) {
        let make = || packed(&parameters[0], deltas.input.gates, deltas.units, lanes);
        self.w_ih.get_or_init(make)
    }

    /// `W_hh^T`.
    pub(crate) fn w_hh(
        &self,
        parameters: &[Tensor<E>],
        deltas: &Deltas,
        lanes: usize,
    ) -> &(Packed<E>, Buffer<E>) {
        let make = || packed(&parameters[1], deltas.recurrent.gates, deltas.units, lanes);
        self.w_hh.get_or_init(make)
    }

    /// `W_hr^T`; there must be a projection.
    pub(crate) fn w_hr(&self, parameters: &[Tensor<E>], lanes: usize) -> &(Packed<E>, Buffer<E>) {
        let weight = &parameters[parameters.len() - 1];
        self.w_hr.get_or_init(|| packed(weight, &[0], weight.shape()[0], lanes))
    }
}

/// `weight: [gates * units, K]` transposed, its inputs the `units` of each of `gates`.
fn packed<E: Element>(
    weight: &Tensor<E>,
    gates: &[usize],
    units: usize,
    lanes: usize,
) -> (Packed<E>, Buffer<E>) {
    let row_of = |k: usize| gates[k / units] * units + k % units;
    let outputs = weight.shape()[1];
    let packed = Packed::transposed(weight.data(), outputs, gates.len() * units, row_of, lanes);
    let zeros = Buffer::zeros(packed.width());
    (packed, zeros)
}
