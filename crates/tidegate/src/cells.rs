//! `torch.nn.LSTMCell`, `GRUCell` and `RNNCell`: one step, parameters without a layer's suffix.

use crate::layers::Nonlinearity;
use crate::{
    Config, Element, Error, Mode, Options, RnnBase, State, StateDict, Stream, Tensor, View,
};

/// One step of an LSTM, as [`torch.nn.LSTMCell`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html).
///
/// ```
/// use tidegate::{LstmCell, Tensor};
/// let cell = LstmCell::<f32>::new(3, 4, true)?;
/// let x = Tensor::new(&[2, 3], vec![0.5; 6])?; // [B, I]
/// let (h, c) = cell.forward(&x, None)?;
/// let (h, c) = cell.forward(&x, Some(((&h).into(), (&c).into())))?;
/// assert_eq!(h.shape(), [2, 4]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LstmCell<E = f32>(RnnBase<E>);

/// One step of a GRU, as [`torch.nn.GRUCell`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html).
#[derive(Clone, Debug)]
pub struct GruCell<E = f32>(RnnBase<E>);

/// One step of an Elman network, as [`torch.nn.RNNCell`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html).
#[derive(Clone, Debug)]
pub struct RnnCell<E = f32>(RnnBase<E>);

/// Runs one step over `x: [B, I]` or `[I]`; states are `[B, H]` or `[H]`.
fn step<'a, E: Element>(
    base: &RnnBase<E>,
    x: View<'a, E>,
    state: Option<State<'a, E>>,
) -> Result<(Tensor<E>, Option<Tensor<E>>), Error> {
    check_dims("input", &x)?;
    // A state of one step has the shape of its row, like the input: [1, B, H] or [1, H].
    let state = match state {
        Some(State { h, c }) => Some(State {
            h: unsqueeze("h_0", h)?,
            c: match c {
                Some(c) => Some(unsqueeze("c_0", c)?),
                None => None,
            },
        }),
        None => None,
    };
    let options = Options { state, ..Options::default() };
    let result = base.forward_with(x.unsqueezed(0), options).map_err(without_step)?;
    let squeeze = |tensor: Tensor<E>| {
        let shape = tensor.shape()[1..].to_vec();
        tensor.reshaped(&shape)
    };
    Ok((squeeze(result.h_n), result.c_n.map(squeeze)))
}

/// The error about a state in the shapes that the cell's caller knows, which have no steps.
fn without_step(error: Error) -> Error {
    match error {
        Error::Shape { tensor, expected, got } => {
            Error::Shape { tensor, expected: expected[1..].to_vec(), got: got[1..].to_vec() }
        }
        Error::Dimensions { tensor, got: 3, .. } => {
            Error::Dimensions { tensor, expected: "1D, as the input is unbatched", got: 2 }
        }
        Error::Dimensions { tensor, .. } => {
            Error::Dimensions { tensor, expected: "2D, as the input is batched", got: 1 }
        }
        other => other,
    }
}

/// Checks that a cell's input or state has one or two dimensions.
fn check_dims<E: Element>(tensor: &'static str, view: &View<'_, E>) -> Result<(), Error> {
    match view.ndim() {
        1 | 2 => Ok(()),
        got => Err(Error::Dimensions { tensor, expected: "1D or 2D", got }),
    }
}

fn unsqueeze<'a, E: Element>(
    tensor: &'static str,
    view: View<'a, E>,
) -> Result<View<'a, E>, Error> {
    check_dims(tensor, &view)?;
    Ok(view.unsqueezed(0))
}

/// What the three types share.
macro_rules! cell {
    ($name:ident) => {
        impl<E: Element> $name<E> {
            /// A cell with the parameters that `dict` holds under `prefix`: `weight_ih`,
            /// `weight_hh` and, unless `config` says otherwise, `bias_ih` and `bias_hh`.
            ///
            /// # Errors
            /// As [`RnnBase::from_state_dict`].
            fn load(config: Config, dict: &StateDict<E>, prefix: &str) -> Result<Self, Error> {
                let rename = |name: &str| name.trim_end_matches("_l0").to_string();
                RnnBase::from_renamed(config, dict, prefix, rename).map(Self)
            }

            /// Number of features of the input, `I`.
            pub fn input_size(&self) -> usize {
                self.0.config().input_size
            }

            /// Number of hidden units, `H`.
            pub fn hidden_size(&self) -> usize {
                self.0.config().hidden_size
            }

            /// A copy of the parameters under PyTorch's names.
            pub fn state_dict(&self) -> StateDict<E> {
                let parameters = self.0.named_parameters();
                parameters
                    .map(|(name, tensor)| {
                        (name.trim_end_matches("_l0").to_string(), tensor.clone())
                    })
                    .collect()
            }

            /// Replaces all parameters by those that `dict` holds under `prefix`.
            ///
            /// # Errors
            /// A parameter that is missing, has another shape, or a tensor under the prefix that
            /// is none of the cell's parameters: the error names it.
            pub fn load_state_dict(
                &mut self,
                dict: &StateDict<E>,
                prefix: &str,
            ) -> Result<(), Error> {
                *self = Self::load(*self.0.config(), dict, prefix)?;
                Ok(())
            }

            /// A stream of `batch` sequences: one step per call without allocation.
            ///
            /// # Errors
            /// [`Error::TooLarge`] if memory cannot hold the batch.
            pub fn stream(&self, batch: usize) -> Result<Stream<E>, Error> {
                self.0.stream(batch)
            }
        }
    };
}

cell!(LstmCell);
cell!(GruCell);
cell!(RnnCell);

impl<E: Element> LstmCell<E> {
    /// A cell with parameters drawn as PyTorch draws them.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn new(input_size: usize, hidden_size: usize, bias: bool) -> Result<Self, Error> {
        let config = Config { bias, ..Config::new(Mode::Lstm, input_size, hidden_size) };
        RnnBase::new(config).map(Self)
    }

    /// The state `(h, c)` after one step over `x: [B, I]` or `[I]` from `(h, c)`, each `[B, H]`
    /// or `[H]`, or zeros.
    ///
    /// # Errors
    /// If `x` or a state has the wrong shape; the message says which.
    pub fn forward<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        hx: Option<(View<'a, E>, View<'a, E>)>,
    ) -> Result<(Tensor<E>, Tensor<E>), Error> {
        let state = hx.map(|(h, c)| State { h, c: Some(c) });
        let (h, c) = step(&self.0, x.into(), state)?;
        Ok((h, c.ok_or(Error::CellState { expected: true })?))
    }
}

impl<E: Element> GruCell<E> {
    /// A cell with parameters drawn as PyTorch draws them.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn new(input_size: usize, hidden_size: usize, bias: bool) -> Result<Self, Error> {
        let config = Config { bias, ..Config::new(Mode::Gru, input_size, hidden_size) };
        RnnBase::new(config).map(Self)
    }

    /// The state after one step over `x: [B, I]` or `[I]` from `h: [B, H]` or `[H]`, or zeros.
    ///
    /// # Errors
    /// If `x` or the state has the wrong shape; the message says which.
    pub fn forward<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        hx: Option<View<'a, E>>,
    ) -> Result<Tensor<E>, Error> {
        Ok(step(&self.0, x.into(), hx.map(|h| State { h, c: None }))?.0)
    }
}

impl<E: Element> RnnCell<E> {
    /// A cell with parameters drawn as PyTorch draws them.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn new(
        input_size: usize,
        hidden_size: usize,
        bias: bool,
        nonlinearity: Nonlinearity,
    ) -> Result<Self, Error> {
        let config = Config { bias, ..Config::new(nonlinearity.mode(), input_size, hidden_size) };
        RnnBase::new(config).map(Self)
    }

    /// The state after one step over `x: [B, I]` or `[I]` from `h: [B, H]` or `[H]`, or zeros.
    ///
    /// # Errors
    /// If `x` or the state has the wrong shape; the message says which.
    pub fn forward<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        hx: Option<View<'a, E>>,
    ) -> Result<Tensor<E>, Error> {
        Ok(step(&self.0, x.into(), hx.map(|h| State { h, c: None }))?.0)
    }
}
