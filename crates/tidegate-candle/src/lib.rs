//! tidegate's recurrent layers as [candle](https://docs.rs/candle-core) modules: `torch.nn.LSTM`, `GRU` and `RNN` on the
//! CPU with PyTorch's parameter names, trained through candle's autograd.
//!
//! A call is one node of the graph, however many steps, layers and directions it has. Results and gradients have the bits of
//! crate [`tidegate`].
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{VarBuilder, VarMap};
//! use tidegate_candle::Lstm;
//!
//! let variables = VarMap::new();
//! let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
//! let lstm = Lstm::new(10, 20, vb.pp("encoder"))?; // encoder.weight_ih_l0, ...
//! let x = Tensor::zeros((5, 3, 10), DType::F32, &Device::Cpu)?; // [T, B, I]
//! let (output, (h_n, c_n)) = lstm.forward(&x, None)?;
//! assert_eq!(output.dims(), [5, 3, 20]); // [T, B, H]
//! assert_eq!(h_n.dims(), [1, 3, 20]); // [D*L, B, H]
//! let gradients = output.sqr()?.mean_all()?.backward()?;
//! for variable in variables.all_vars() {
//!     assert!(gradients.get(&variable).is_some());
//! }
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! Parameters that are variables (from a [`VarMap`](candle_nn::VarMap)) are read anew in every call, since an optimiser may
//! have changed them. Others, such as those of
//! [`VarBuilder::from_mmaped_safetensors`](candle_nn::VarBuilder::from_mmaped_safetensors), are packed once, when the layer is
//! first called. Tensors on other devices than the CPU are refused.

mod clip;
mod layer;
mod memory;
mod op;
mod typed;

pub use clip::clip_grad_norm;
pub use layer::{Options, Output, RnnBase, State};
pub use tidegate::{Config, Mode};
pub use typed::{Gru, Lstm, Rnn};
