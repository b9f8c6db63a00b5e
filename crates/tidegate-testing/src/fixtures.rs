//! Reads `fixtures/`: what PyTorch answered, and what it refused.
//!
//! `fixtures/generate.py` says how the files are made, `fixtures/manifest.json` lists the cases and, in its notes,
//! what is not obvious about them.
//!
//! ```
//! use tidegate_testing::fixtures::{self, Kind};
//! for case in fixtures::cases().iter().filter(|case| case.kind == Kind::Layer) {
//!     let x: Vec<f64> = case.inputs["input"].to();
//!     let w = &case.parameters["weight_hh_l0"];
//!     assert_eq!(w.shape[1], case.output_size());
//!     assert_eq!(x.len(), case.inputs["input"].count());
//! }
//! ```

mod case;
mod refusal;
mod tensor;

use std::fs;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

pub use case::{Case, Kind, Mode, PaddingSide, cases};
pub use refusal::{Given, Refusal, Shaped, refusals};
pub use tensor::{Data, Dtype, Tensor, Tensors};

/// The folder `fixtures/` of the checkout.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn read(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; `cargo xtask fixtures` makes it", path.display())
    })
}

fn read_json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&read(name)).unwrap_or_else(|error| panic!("fixtures/{name}: {error}"))
}
