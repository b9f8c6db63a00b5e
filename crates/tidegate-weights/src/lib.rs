//! Checkpoints: named tensors from a file, and the recurrent layers among them.
//!
//! Reads `.safetensors`, what `torch.save` writes (`.pt`, `.pth`: state dicts, checkpoints that
//! nest one, whole modules) and NumPy's `.npz` and `.npy`. Which of them a file is, its content
//! says, not its name.
//!
//! ```no_run
//! use tidegate_weights::Checkpoint;
//!
//! let checkpoint = Checkpoint::open("model.pt")?;
//! for layer in checkpoint.discover()? {
//!     println!("{}: {layer}", layer.prefix); // encoder.: LSTM(40, 64, num_layers=2)
//! }
//! let layer = checkpoint.layer(Some("encoder"))?;
//! let lstm = checkpoint.load::<f32>(&layer)?;
//! # Ok::<(), tidegate_weights::Error>(())
//! ```
//!
//! # Untrusted files
//! Nothing in a file is run. A pickle is read by an interpreter of our own that knows a fixed list
//! of opcodes and names ([`Error::ForbiddenOpcode`], [`Error::ForbiddenGlobal`]); a name outside
//! the list may only be the class of a module, that is of an object that holds parameters.
//!
//! A malformed file is an [`Error`] that says where, not a panic, and costs memory and time in
//! proportion to its size. Sizes that a file claims are compared with what it holds before memory
//! is asked for. Tensors that are compressed, repeat elements or are asked for in a larger type, may
//! come to [`EXPANSION`] times the file's size plus [`ALLOWANCE`]; so may all of a layer, and all that
//! are written, together. What a pickle builds takes 5 bytes for each of its own as `torch.save`
//! writes it, and at most 101 if it was made to (`tests/pickles.rs`).
//!
//! # Where to look
//! - a format: one file in `format/` and its arm in `format::parse`
//! - names and calls that a pickle may use: `format/pickle/globals.rs`
//! - how sizes and directions are told from names and shapes: `discover.rs`

mod archive;
mod checkpoint;
mod discover;
mod dtype;
mod entry;
mod error;
mod format;
mod limits;
mod write;

pub use checkpoint::Checkpoint;
pub use discover::Layer;
pub use dtype::Dtype;
pub use error::{Error, quoted};
pub use format::Format;
pub use limits::{ALLOWANCE, EXPANSION, MAX_DIMS};
pub use write::write_safetensors;

/// The README's examples, compiled; those that need no file are run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
