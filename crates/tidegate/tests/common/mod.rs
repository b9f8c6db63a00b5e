//! Fixture cases as this crate's types, and random calls.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod call;
pub(crate) mod sample;

use tidegate::{Config, Element, Mode, StateDict, Tensor, View};
use tidegate_testing::Float;
use tidegate_testing::fixtures::{self, Case, Tensors};

/// A number type that both the layers and the fixtures know.
pub(crate) trait Number: Element + Float {}
impl<N: Element + Float> Number for N {}

/// The case's constructor arguments.
pub(crate) fn config(case: &Case) -> Config {
    Config {
        num_layers: case.num_layers,
        bias: case.bias,
        batch_first: case.batch_first,
        dropout: case.dropout,
        bidirectional: case.bidirectional,
        proj_size: case.proj_size,
        ..Config::new(mode(case.mode), case.input_size, case.hidden_size)
    }
}

/// The same mode.
pub(crate) fn mode(mode: fixtures::Mode) -> Mode {
    match mode {
        fixtures::Mode::Lstm => Mode::Lstm,
        fixtures::Mode::Gru => Mode::Gru,
        fixtures::Mode::RnnTanh => Mode::RnnTanh,
        fixtures::Mode::RnnRelu => Mode::RnnRelu,
    }
}

/// A tensor of a case.
pub(crate) fn tensor<E: Number>(tensor: &fixtures::Tensor) -> Tensor<E> {
    Tensor::new(&tensor.shape, tensor.to::<E>()).expect("a fixture's data fills its shape")
}

/// Tensors of a case by name.
pub(crate) fn dict<E: Number>(tensors: &Tensors) -> StateDict<E> {
    tensors.iter().map(|(name, t)| (name, tensor(t))).collect()
}

/// A view of an optional tensor.
pub(crate) fn view<E: Element>(tensor: &Option<Tensor<E>>) -> Option<View<'_, E>> {
    tensor.as_ref().map(View::from)
}
