//! The weights as the way back reads them.

use std::sync::OnceLock;

use crate::buffer::Buffer;
use crate::cell::{Window, windows};
use crate::kernel::pack::Packed;
use crate::weights::Repack;
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

/// A packed matrix, with the zeros that its products start from.
pub(crate) type Matrix<E> = (Packed<E>, Buffer<E>);

/// The transposed weights of one layer and direction, each made when first wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transposed<E> {
    w_ih: OnceLock<Matrix<E>>,
    w_hh: OnceLock<Matrix<E>>,
    w_hr: OnceLock<Matrix<E>>,
}

impl<E: Element> Transposed<E> {
    /// `W_ih^T`, of a layer's `parameters`.
    pub(crate) fn w_ih(&self, parameters: &[Tensor<E>], form: &Deltas, lanes: usize) -> &Matrix<E> {
        self.w_ih.get_or_init(|| Source::w_ih(parameters, form).pack(lanes))
    }

    /// `W_hh^T`.
    pub(crate) fn w_hh(&self, parameters: &[Tensor<E>], form: &Deltas, lanes: usize) -> &Matrix<E> {
        self.w_hh.get_or_init(|| Source::w_hh(parameters, form).pack(lanes))
    }

    /// `W_hr^T`; there must be a projection.
    pub(crate) fn w_hr(&self, parameters: &[Tensor<E>], lanes: usize) -> &Matrix<E> {
        self.w_hr.get_or_init(|| Source::w_hr(parameters).pack(lanes))
    }

    /// What is to be done to pack other parameters of the same shapes, of those that are there.
    pub(crate) fn set<'a>(
        &'a mut self,
        config: &Config,
        parameters: &'a [Tensor<E>],
    ) -> impl Iterator<Item = Repack<'a>> + use<'a, E> {
        let form = Deltas::of::<E>(config);
        let w_ih = self.w_ih.get_mut().map(|to| (to, Source::w_ih(parameters, &form)));
        let w_hh = self.w_hh.get_mut().map(|to| (to, Source::w_hh(parameters, &form)));
        let w_hr = self.w_hr.get_mut().map(|to| (to, Source::w_hr(parameters)));
        let there = [w_ih, w_hh, w_hr].into_iter().flatten();
        there.map(|((packed, _), from)| Box::new(move || from.write(packed)) as Repack<'a>)
    }
}

/// A matrix to be transposed: `weight: [gates * units, K]`, its inputs the `units` of each of `gates`.
struct Source<'a, E> {
    weight: &'a Tensor<E>,
    gates: &'static [usize],
    units: usize,
}

impl<'a, E: Element> Source<'a, E> {
    fn w_ih(parameters: &'a [Tensor<E>], form: &Deltas) -> Self {
        Self { weight: &parameters[0], gates: form.input.gates, units: form.units }
    }

    fn w_hh(parameters: &'a [Tensor<E>], form: &Deltas) -> Self {
        Self { weight: &parameters[1], gates: form.recurrent.gates, units: form.units }
    }

    fn w_hr(parameters: &'a [Tensor<E>]) -> Self {
        let weight = &parameters[parameters.len() - 1];
        Self { weight, gates: &[0], units: weight.shape()[0] }
    }

    fn pack(&self, lanes: usize) -> Matrix<E> {
        let (outputs, inputs) = (self.weight.shape()[1], self.gates.len() * self.units);
        let mut packed = Packed::zeros(outputs, inputs, lanes);
        self.write(&mut packed);
        let zeros = Buffer::zeros(packed.width());
        (packed, zeros)
    }

    fn write(&self, packed: &mut Packed<E>) {
        let row_of = |k: usize| self.gates[k / self.units] * self.units + k % self.units;
        packed.set_transposed(self.weight.data(), self.weight.shape()[1], row_of);
    }
}
