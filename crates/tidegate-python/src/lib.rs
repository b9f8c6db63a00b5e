//! The extension module of the Python package: layers over memory that Python owns.
//!
//! Private to the package, whose Python part knows PyTorch and numpy: here arrays are addresses with sizes and strides,
//! which the caller has taken from tensors that live until the call returns.

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
