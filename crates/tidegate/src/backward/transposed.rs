//! The weights as the way back reads them.

use tidegate_simd::Level;

use crate::cell::{Window, windows};
use crate::kernel::pack::{Layouts, Packed, Shape, Work};
use crate::{Config, Element};

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

/// The transposed weights of one layer and direction, where the way back needs them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transposed<E> {
    /// `W_ih^T`.
    pub(super) w_ih: Option<Packed<E>>,
    /// `W_hh^T`.
    pub(super) w_hh: Option<Packed<E>>,
    /// `W_hr^T`, of a projection.
    pub(super) w_hr: Option<Packed<E>>,
}

/// A matrix to be transposed: `weight: [gates * units, outputs]`, its inputs the `units` of each of `gates`.
#[derive(Debug)]
pub(super) struct Source<'a, E> {
    weight: &'a [E],
    gates: &'static [usize],
    units: usize,
    outputs: usize,
}

impl<'a, E: Element> Source<'a, E> {
    /// `W_ih`, of one layer's and direction's `parameters`.
    pub(super) fn w_ih(parameters: &[&'a [E]], config: &Config) -> Self {
        Self::of_gates(parameters[0], config, |form| form.input)
    }

    /// `W_hh`.
    pub(super) fn w_hh(parameters: &[&'a [E]], config: &Config) -> Self {
        Self::of_gates(parameters[1], config, |form| form.recurrent)
    }

    fn of_gates(weight: &'a [E], config: &Config, window: impl Fn(Deltas) -> Window) -> Self {
        let rows = config.mode.gates() * config.hidden_size;
        let gates = window(Deltas::of::<E>(config)).gates;
        Self { weight, gates, units: config.hidden_size, outputs: weight.len() / rows }
    }

    /// `W_hr`; there must be a projection.
    pub(super) fn w_hr(parameters: &[&'a [E]], config: &Config) -> Self {
        let weight = parameters[parameters.len() - 1];
        Self { weight, gates: &[0], units: config.proj_size, outputs: config.hidden_size }
    }

    /// Its transpose, yet to be packed in `memory`.
    pub(super) fn within(&self, memory: Layouts<E>, level: Level) -> Packed<E> {
        let (units, inputs) = (self.outputs, self.gates.len() * self.units);
        let shape = Shape { gates: 1, units, inputs, lanes: [E::lanes(level); 2] };
        Packed::within(memory, shape)
    }

    /// Adds to `works` what is to be done to pack it in `to`.
    pub(super) fn pack<'b>(&self, to: &'b mut Packed<E>, works: &mut Vec<Work<'b>>)
    where
        'a: 'b,
    {
        let Self { weight, gates, units, .. } = *self;
        let row_of = move |k: usize| gates[k / units] * units + k % units;
        to.pack_transposed(weight, row_of, works);
    }
}
