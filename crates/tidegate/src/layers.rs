//! `torch.nn.LSTM`, `GRU` and `RNN`: the stack of any mode with its mode fixed.

use core::marker::PhantomData;
use core::ops::Deref;

use tidegate_simd::Level;

use crate::{
    Config, Element, Error, Generator, Mode, Options, PackedSequence, RnnBase, State, Tensor, View,
};

/// Long short-term memory, as [`torch.nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html).
///
/// ```
/// use tidegate::{Lstm, Tensor};
/// let lstm = Lstm::<f32>::builder(10, 20).num_layers(2).bidirectional(true).build()?;
/// let x = Tensor::new(&[5, 3, 10], vec![0.5; 150])?; // [T, B, I]
/// let (output, (h_n, c_n)) = lstm.forward(&x, None)?;
/// assert_eq!(output.shape(), [5, 3, 40]); // [T, B, D*H]
/// assert_eq!(h_n.shape(), [4, 3, 20]); // [D*L, B, H]
/// assert_eq!(c_n.shape(), [4, 3, 20]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lstm<E = f32>(RnnBase<E>);

/// Gated recurrent unit, as [`torch.nn.GRU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html).
///
/// ```
/// use tidegate::{Gru, Tensor};
/// let gru = Gru::<f64>::builder(4, 6).batch_first(true).build()?;
/// let x = Tensor::new(&[2, 7, 4], vec![0.5; 56])?; // [B, T, I]
/// let h_0 = Tensor::new(&[1, 2, 6], vec![0.1; 12])?; // [D*L, B, H], never batch first
/// let (output, h_n) = gru.forward(&x, Some((&h_0).into()))?;
/// assert_eq!(output.shape(), [2, 7, 6]);
/// assert_eq!(h_n.shape(), [1, 2, 6]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gru<E = f32>(RnnBase<E>);

/// Elman network, as [`torch.nn.RNN`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html).
///
/// ```
/// use tidegate::{Nonlinearity, Rnn, Tensor};
/// let rnn = Rnn::<f32>::builder(4, 6).nonlinearity(Nonlinearity::Relu).build()?;
/// let x = Tensor::new(&[7, 4], vec![0.5; 28])?; // [T, I]: unbatched
/// let (output, h_n) = rnn.forward(&x, None)?;
/// assert_eq!(output.shape(), [7, 6]);
/// assert_eq!(h_n.shape(), [1, 6]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rnn<E = f32>(RnnBase<E>);

/// The activation of an Elman network.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Nonlinearity {
    /// `tanh`
    Tanh,
    /// `relu`
    Relu,
}

impl Nonlinearity {
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::Tanh => Mode::RnnTanh,
            Self::Relu => Mode::RnnRelu,
        }
    }
}

/// The constructor's arguments of a layer, with PyTorch's defaults.
#[derive(Copy, Clone, Debug)]
#[must_use = "a builder makes no layer until `build`"]
pub struct Builder<L> {
    config: Config,
    level: Option<Level>,
    layer: PhantomData<fn() -> L>,
}

/// A layer whose mode its type tells.
pub trait Layer: Sized {
    /// The type of its numbers.
    type Element: Element;
    /// Takes over a stack of any mode.
    ///
    /// # Errors
    /// [`Error::Mode`] if the stack has a mode that is not this type's.
    fn from_base(base: RnnBase<Self::Element>) -> Result<Self, Error>;
}

impl<L: Layer> Builder<L> {
    fn new(mode: Mode, input_size: usize, hidden_size: usize) -> Self {
        Self { config: Config::new(mode, input_size, hidden_size), level: None, layer: PhantomData }
    }

    /// Number of stacked layers; 1 by default.
    pub fn num_layers(mut self, num_layers: usize) -> Self {
        self.config.num_layers = num_layers;
        self
    }

    /// Whether there are biases; true by default.
    pub fn bias(mut self, bias: bool) -> Self {
        self.config.bias = bias;
        self
    }

    /// Whether input and output are `[B, T, *]`; false by default.
    pub fn batch_first(mut self, batch_first: bool) -> Self {
        self.config.batch_first = batch_first;
        self
    }

    /// Probability of zeroing an element between layers in training mode; 0 by default.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.config.dropout = dropout;
        self
    }

    /// Whether every layer also runs backwards in time; false by default.
    pub fn bidirectional(mut self, bidirectional: bool) -> Self {
        self.config.bidirectional = bidirectional;
        self
    }

    /// The instruction set to compute with; the best there is by default. Changes no bit.
    pub fn level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Builds the layer with parameters drawn from the process's generator.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn build(self) -> Result<L, Error> {
        self.finish(RnnBase::new(self.config)?)
    }

    /// Builds the layer with parameters drawn from `generator`.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn build_with(self, generator: &mut Generator) -> Result<L, Error> {
        self.finish(RnnBase::with_generator(self.config, generator)?)
    }

    fn finish(&self, base: RnnBase<L::Element>) -> Result<L, Error> {
        L::from_base(match self.level {
            Some(level) => base.at_level(level),
            None => base,
        })
    }
}

impl<E: Element> Builder<Lstm<E>> {
    /// Size of the projected `h`, smaller than the hidden size; 0, no projection, by default.
    pub fn proj_size(mut self, proj_size: usize) -> Self {
        self.config.proj_size = proj_size;
        self
    }
}

impl<E: Element> Builder<Rnn<E>> {
    /// The activation; `tanh` by default.
    pub fn nonlinearity(mut self, nonlinearity: Nonlinearity) -> Self {
        self.config.mode = nonlinearity.mode();
        self
    }
}

/// What the three types share.
macro_rules! layer {
    ($name:ident, $default:expr, [$($mode:pat),+]) => {
        impl<E: Element> $name<E> {
            /// A layer with PyTorch's defaults and parameters drawn from the process's generator.
            ///
            /// # Errors
            /// As [`Config::validate`].
            pub fn new(input_size: usize, hidden_size: usize) -> Result<Self, Error> {
                Self::builder(input_size, hidden_size).build()
            }

            /// The other arguments of PyTorch's constructor.
            pub fn builder(input_size: usize, hidden_size: usize) -> Builder<Self> {
                Builder::new($default, input_size, hidden_size)
            }

            /// Replaces all parameters, as [`RnnBase::load_state_dict`].
            ///
            /// # Errors
            /// As there.
            pub fn load_state_dict(
                &mut self,
                dict: &crate::StateDict<E>,
                prefix: &str,
            ) -> Result<(), Error> {
                self.0.load_state_dict(dict, prefix)
            }
        }

        impl<E: Element> Layer for $name<E> {
            type Element = E;
            fn from_base(base: RnnBase<E>) -> Result<Self, Error> {
                match base.config().mode {
                    $($mode)|+ => Ok(Self(base)),
                    got => Err(Error::Mode { expected: stringify!($name), got: got.name() }),
                }
            }
        }

        /// A layer can do all that the stack of any mode can.
        impl<E> Deref for $name<E> {
            type Target = RnnBase<E>;
            fn deref(&self) -> &RnnBase<E> {
                &self.0
            }
        }
    };
}

layer!(Lstm, Mode::Lstm, [Mode::Lstm]);
layer!(Gru, Mode::Gru, [Mode::Gru]);
layer!(Rnn, Mode::RnnTanh, [Mode::RnnTanh, Mode::RnnRelu]);

/// The results of an LSTM: `output` and `(h_n, c_n)`.
type LstmOutput<Y, E> = (Y, (Tensor<E>, Tensor<E>));

impl<E: Element> Lstm<E> {
    /// Runs the layer over `x: [T, B, I]` (`[B, T, I]` if `batch_first`, `[T, I]` unbatched) from
    /// `(h_0, c_0)`: `[D*L, B, P]` and `[D*L, B, H]`, or zeros.
    ///
    /// Returns `output: [T, B, D*P]` in the order of `x`, and `(h_n, c_n)` of the shapes of
    /// `(h_0, c_0)`. For lengths, dropout and more, see [`RnnBase::forward_with`].
    ///
    /// # Errors
    /// If `x` or a state has the wrong shape; the message says which.
    pub fn forward<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        hx: Option<(View<'a, E>, View<'a, E>)>,
    ) -> Result<LstmOutput<Tensor<E>, E>, Error> {
        let state = hx.map(|(h, c)| State { h, c: Some(c) });
        let result = self.0.forward_with(x, Options { state, ..Options::default() })?;
        Ok((result.output, (result.h_n, result.c_n.ok_or(Error::CellState { expected: true })?)))
    }

    /// Runs the layer over a packed sequence; states are in the order of the caller's sequences.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_packed<'a>(
        &self,
        x: &PackedSequence<E>,
        hx: Option<(View<'a, E>, View<'a, E>)>,
    ) -> Result<LstmOutput<PackedSequence<E>, E>, Error> {
        let state = hx.map(|(h, c)| State { h, c: Some(c) });
        let options = Options { state, ..Options::default() };
        let (output, h_n, c_n) = self.0.forward_packed(x, options)?;
        Ok((output, (h_n, c_n.ok_or(Error::CellState { expected: true })?)))
    }
}

/// The calls of a layer whose state is `h` alone.
macro_rules! forward_h {
    ($name:ident) => {
        impl<E: Element> $name<E> {
            /// Runs the layer over `x: [T, B, I]` (`[B, T, I]` if `batch_first`, `[T, I]`
            /// unbatched) from `h_0: [D*L, B, H]`, or zeros.
            ///
            /// Returns `output: [T, B, D*H]` in the order of `x`, and `h_n` of the shape of `h_0`.
            /// For lengths, dropout and more, see [`RnnBase::forward_with`].
            ///
            /// # Errors
            /// If `x` or `h_0` has the wrong shape; the message says which.
            pub fn forward<'a>(
                &self,
                x: impl Into<View<'a, E>>,
                hx: Option<View<'a, E>>,
            ) -> Result<(Tensor<E>, Tensor<E>), Error> {
                let state = hx.map(|h| State { h, c: None });
                let result = self.0.forward_with(x, Options { state, ..Options::default() })?;
                Ok((result.output, result.h_n))
            }

            /// Runs the layer over a packed sequence; states are in the order of the caller's
            /// sequences.
            ///
            /// # Errors
            /// As [`forward`](Self::forward).
            pub fn forward_packed<'a>(
                &self,
                x: &PackedSequence<E>,
                hx: Option<View<'a, E>>,
            ) -> Result<(PackedSequence<E>, Tensor<E>), Error> {
                let state = hx.map(|h| State { h, c: None });
                let options = Options { state, ..Options::default() };
                let (output, h_n, _) = self.0.forward_packed(x, options)?;
                Ok((output, h_n))
            }
        }
    };
}

forward_h!(Gru);
forward_h!(Rnn);
