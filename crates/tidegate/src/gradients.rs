//! What enters a backward call and what leaves it: derivatives, and places for them.

use crate::check::Dims;
use crate::{Config, Element, Error, Tensor, View};

/// The derivatives of the loss by the results of a forward call; zeros where there are none.
#[derive(Copy, Clone, Debug)]
pub struct Upstream<'a, E> {
    /// Shaped as [`Output::output`](crate::Output::output). What it holds past a sequence's end is not used.
    pub output: Option<View<'a, E>>,
    /// Shaped as [`Output::h_n`](crate::Output::h_n).
    pub h_n: Option<View<'a, E>>,
    /// Shaped as [`Output::c_n`](crate::Output::c_n).
    pub c_n: Option<View<'a, E>>,
}

impl<E> Default for Upstream<'_, E> {
    fn default() -> Self {
        Self { output: None, h_n: None, c_n: None }
    }
}

/// The derivatives of the loss by everything that entered a forward call.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<E> {
    /// Shaped as the input, packed as it is.
    pub input: Tensor<E>,
    /// `[D*L, B, P]`.
    pub h_0: Tensor<E>,
    /// `[D*L, B, H]`, of an LSTM.
    pub c_0: Option<Tensor<E>>,
    /// By the `h` after resets, `[D*L, B, P]`; zeros without.
    pub reset_h: Tensor<E>,
    /// By the `c` after resets, `[D*L, B, H]`, of an LSTM.
    pub reset_c: Option<Tensor<E>>,
    /// In the order of [`Config::parameters`].
    pub parameters: Vec<Tensor<E>>,
}

/// Where gradients go, row-major, shaped as in [`Gradients`]; what is `None` is not computed.
#[derive(Debug, Default)]
pub struct GradientsMut<'a, E> {
    /// As [`Gradients::input`].
    pub input: Option<&'a mut [E]>,
    /// As [`Gradients::h_0`].
    pub h_0: Option<&'a mut [E]>,
    /// As [`Gradients::c_0`].
    pub c_0: Option<&'a mut [E]>,
    /// As [`Gradients::reset_h`].
    pub reset_h: Option<&'a mut [E]>,
    /// As [`Gradients::reset_c`].
    pub reset_c: Option<&'a mut [E]>,
    /// As [`Gradients::parameters`], or empty for none.
    pub parameters: Vec<Option<&'a mut [E]>>,
    /// Whether to add to what is there rather than to replace it.
    pub accumulate: bool,
}

impl<E: Element> Gradients<E> {
    /// Zeros, for the layer of `config` and the shapes of a forward call's results.
    pub(crate) fn zeros(config: &Config, dims: &Dims) -> Result<Self, Error> {
        let ((h_0, c_0), (reset_h, reset_c)) = (dims.states(config)?, dims.states(config)?);
        let zeros = |shape: &[usize]| Tensor::full(shape, E::ZERO);
        let parameters = config.parameters();
        Ok(Self {
            input: zeros(&dims.sequence_shape(config, config.input_size))?,
            h_0,
            c_0,
            reset_h,
            reset_c,
            parameters: parameters
                .iter()
                .map(|(_, shape)| zeros(shape))
                .collect::<Result<_, _>>()?,
        })
    }

    /// All of them, to be written.
    pub fn as_mut(&mut self) -> GradientsMut<'_, E> {
        GradientsMut {
            input: Some(self.input.data_mut()),
            h_0: Some(self.h_0.data_mut()),
            c_0: self.c_0.as_mut().map(Tensor::data_mut),
            reset_h: Some(self.reset_h.data_mut()),
            reset_c: self.reset_c.as_mut().map(Tensor::data_mut),
            parameters: self.parameters.iter_mut().map(|p| Some(p.data_mut())).collect(),
            accumulate: false,
        }
    }
}

impl<E: Element> GradientsMut<'_, E> {
    /// Sets all of them to zero.
    pub(crate) fn clear(&mut self) {
        let states = [&mut self.h_0, &mut self.c_0, &mut self.reset_h, &mut self.reset_c];
        let states = states.into_iter().chain([&mut self.input]);
        for to in states.chain(&mut self.parameters).flatten() {
            to.fill(E::ZERO);
        }
    }
}
