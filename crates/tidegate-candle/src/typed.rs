//! `torch.nn.LSTM`, `GRU` and `RNN`: the stack of any mode with its mode fixed.

use core::ops::Deref;

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;
use tidegate::{Config, Mode};

use crate::{Options, RnnBase, State};

macro_rules! layer {
    ($(#[$doc:meta])* $name:ident, $mode:expr, $modes:pat) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(RnnBase);

        impl $name {
            /// One layer from `input_size` features to `hidden_size` units.
            ///
            /// # Errors
            /// As [`RnnBase::new`].
            pub fn new(input_size: usize, hidden_size: usize, vb: VarBuilder<'_>) -> Result<Self> {
                RnnBase::new(Config::new($mode, input_size, hidden_size), vb).map(Self)
            }

            /// With all arguments of PyTorch's constructor.
            ///
            /// # Errors
            /// As [`RnnBase::new`], and if the mode of `config` is another one.
            pub fn with_config(config: Config, vb: VarBuilder<'_>) -> Result<Self> {
                match config.mode {
                    $modes => RnnBase::new(config, vb).map(Self),
                    other => bail!("expected {}, got {}", stringify!($name), other.name()),
                }
            }
        }

        impl Deref for $name {
            type Target = RnnBase;
            fn deref(&self) -> &RnnBase {
                &self.0
            }
        }

        /// The output alone, from zero states and without dropout.
        impl Module for $name {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                Ok(self.0.forward_with(x, Options::default())?.output)
            }
        }
    };
}

layer!(
    /// Long short-term memory, as `torch.nn.LSTM`.
    Lstm,
    Mode::Lstm,
    Mode::Lstm
);
layer!(
    /// Gated recurrent unit, as `torch.nn.GRU`.
    Gru,
    Mode::Gru,
    Mode::Gru
);
layer!(
    /// Elman network, as `torch.nn.RNN`; with `relu` by [`with_config`](Self::with_config).
    Rnn,
    Mode::RnnTanh,
    Mode::RnnTanh | Mode::RnnRelu
);

impl Lstm {
    /// Runs the layer over `x: [T, B, I]` from `(h_0, c_0)`, zeros if none; returns the output and `(h_n, c_n)`. For lengths,
    /// resets and dropout see [`RnnBase::forward_with`].
    ///
    /// # Errors
    /// As [`RnnBase::forward_with`].
    pub fn forward(
        &self,
        x: &Tensor,
        state: Option<(&Tensor, &Tensor)>,
    ) -> Result<(Tensor, (Tensor, Tensor))> {
        let state = state.map(|(h, c)| State { h: h.clone(), c: Some(c.clone()) });
        let options = Options { state: state.as_ref(), ..Options::default() };
        let result = self.0.forward_with(x, options)?;
        let Some(c) = result.state.c else { bail!("an LSTM has a cell state") };
        Ok((result.output, (result.state.h, c)))
    }
}

macro_rules! forward {
    ($name:ident) => {
        impl $name {
            /// Runs the layer over `x: [T, B, I]` from `h_0`, zeros if none; returns the output and `h_n`. For
            /// lengths, resets and dropout see [`RnnBase::forward_with`].
            ///
            /// # Errors
            /// As [`RnnBase::forward_with`].
            pub fn forward(&self, x: &Tensor, h_0: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
                let state = h_0.map(|h| State { h: h.clone(), c: None });
                let options = Options { state: state.as_ref(), ..Options::default() };
                let result = self.0.forward_with(x, options)?;
                Ok((result.output, result.state.h))
            }
        }
    };
}

forward!(Gru);
forward!(Rnn);
