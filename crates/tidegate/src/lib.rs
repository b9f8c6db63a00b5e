//! PyTorch's recurrent layers on the CPU: exact, fast, and the same bits everywhere.
//!
//! [`Lstm`], [`Gru`] and [`Rnn`] compute what `torch.nn.LSTM`, `GRU` and `RNN` compute, with the
//! same arguments, parameter names and shapes; [`LstmCell`], [`GruCell`] and [`RnnCell`] one step
//! of it. A result does not depend on how the work was cut: batch, chunks, threads and
//! instruction set change no bit (`NUMERICS.md`).
//!
//! ```
//! use ndarray::Array3;
//! use tidegate::Lstm;
//!
//! let lstm = Lstm::<f32>::builder(10, 20).num_layers(2).build()?;
//! let x = Array3::<f32>::zeros((5, 3, 10)); // [T, B, I]
//! let (output, (h_n, c_n)) = lstm.forward(&x, None)?;
//! assert_eq!(output.shape(), [5, 3, 20]); // [T, B, H]
//! assert_eq!(h_n.shape(), [2, 3, 20]); // [L, B, H]
//!
//! // One step at a time, the same bits.
//! let mut stream = lstm.stream(3)?;
//! let y = stream.step(&[0.0; 30])?; // [B, I] -> [B, H]
//! assert_eq!(y, &output.data()[..60]);
//! # Ok::<(), tidegate::Error>(())
//! ```
//!
//! Where to look:
//! - arguments: [`Config`] and the builders; parameters: [`StateDict`],
//!   [`RnnBase::from_state_dict`], [`manual_seed`]
//! - arrays: every input is a [`View`] (a slice with a shape, a [`Tensor`], any `ndarray` array);
//!   results are [`Tensor`]s, or memory of the caller with [`RnnBase::forward_into`]
//! - sequences of different lengths: [`Options::lengths`], [`PackedSequence`]
//! - parameters that are another's: [`Functional`]
//! - sequences that arrive piece by piece: [`Stream`]; a step at a time with its state outside: [`LstmCell`] and its likes
//! - gradients: [`RnnBase::forward_train`], [`RnnBase::backward`]
//! - threads: [`set_num_threads`]; weights in half the memory: [`RnnBase::with_bf16_weights`]

mod advance;
mod backward;
mod batch;
mod buffer;
mod call;
mod carry;
mod cell;
mod cells;
mod check;
mod config;
mod cores;
mod crew;
mod cuts;
mod dispatch;
mod element;
mod error;
mod exchange;
mod float_mode;
mod forward;
mod functional;
mod generator;
mod gradients;
mod huge_pages;
mod kernel;
mod layers;
mod memory;
mod options;
mod pace;
mod packed;
mod packing;
mod params;
mod plan;
mod rnn;
mod rows;
mod saved;
mod scan;
mod sequence;
mod single;
mod stack;
mod state_dict;
mod states;
mod stream;
mod team;
mod tensor;
mod threads;
mod train;
mod view;
mod weights;
mod workspace;

pub use cells::{GruCell, LstmCell, RnnCell};
pub use config::{Config, Mode};
#[doc(hidden)]
pub use crew::wake_from;
pub use element::Element;
pub use error::Error;
pub use functional::Functional;
pub use generator::{Generator, manual_seed};
pub use gradients::{Gradients, GradientsMut, Upstream};
pub use layers::{Builder, Gru, Layer, Lstm, Nonlinearity, Rnn};
pub use options::{Options, Output, OutputMut, Resets, State};
pub use packed::PackedOutput;
pub use packing::{PackedSequence, Packing, invert_permutation};
pub use rnn::RnnBase;
pub use saved::Saved;
pub use sequence::{
    PaddingSide, pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence,
    unpack_sequence, unpad_sequence,
};
pub use state_dict::StateDict;
pub use stream::Stream;
pub use tensor::Tensor;
pub use threads::{num_threads, set_num_threads};
pub use tidegate_simd::Level;
pub use view::{MAX_DIMS, View};
pub use workspace::Workspace;
