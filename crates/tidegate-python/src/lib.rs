//! The extension module of the Python package: layers over memory that Python owns.
//!
//! Private to the package. Arrays of numpy come as addresses with sizes and strides, which the package's Python part has
//! taken from arrays that live until the call returns. Tensors of PyTorch come as objects (`torch.rs`), and modules too,
//! where their calls are of the most common kind (`direct.rs`).

mod array;
mod call;
mod config;
mod direct;
mod file;
mod layer;
mod module;
mod prepacked;
mod registry;
mod saved;
mod stream;
mod torch;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::call::{backward, forward};
    #[pymodule_export]
    use super::direct::{direct, direct_cell};
    #[pymodule_export]
    use super::file::{inspect, load};
    #[pymodule_export]
    use super::layer::Layer;
    #[pymodule_export]
    use super::prepacked::Prepacked;
    #[pymodule_export]
    use super::registry::layers_kept;
    #[pymodule_export]
    use super::saved::Saved;
    #[pymodule_export]
    use super::stream::Stream;
}
