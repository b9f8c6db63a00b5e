//! Layers whose weights are taken as unchanged until PyTorch counts a change.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType, PyWeakrefReference};

use crate::config::Config;
use crate::layer::Layer;

/// A layer for some weights, and those weights with PyTorch's counts of their changes when they were last compared.
#[pyclass(frozen, module = "tidegate._core")]
pub(crate) struct Prepacked {
    config: [usize; Config::WORDS],
    layer: Arc<Layer>,
    weights: Vec<(Py<PyWeakrefReference>, Py<PyAny>)>,
}

impl Prepacked {
    pub(crate) fn new(
        config: &Config,
        layer: Arc<Layer>,
        weights: &[Bound<'_, PyAny>],
    ) -> PyResult<Self> {
        let remembered = |weight: &Bound<'_, PyAny>| {
            let reference = PyWeakrefReference::new(weight)?;
            Ok((reference.unbind(), version(weight)?.unbind()))
        };
        let mut counted = true; // inference tensors are not
        for weight in weights {
            counted &= !weight.call_method0(intern!(weight.py(), "is_inference"))?.is_truthy()?;
        }
        let weights = match counted {
            true => weights.iter().map(remembered).collect::<PyResult<_>>()?,
            false => Vec::new(),
        };
        Ok(Self { config: config.words(), layer, weights })
    }

    pub(crate) fn layer(&self) -> Arc<Layer> {
        self.layer.clone()
    }

    /// Whether the layer has the values of these very tensors, as far as PyTorch counts changes.
    pub(crate) fn is_of(&self, config: &Config, weights: &[Bound<'_, PyAny>]) -> PyResult<bool> {
        if self.config != config.words() || self.weights.len() != weights.len() {
            return Ok(false);
        }
        for ((reference, counted), weight) in self.weights.iter().zip(weights) {
            let known = reference.bind(weight.py()).upgrade();
            if !known.is_some_and(|known| known.is(weight)) || !version(weight)?.eq(counted)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// PyTorch's count of the changes of a tensor.
fn version<'py>(weight: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    weight.getattr(intern!(weight.py(), "_version"))
}

#[pymethods]
impl Prepacked {
    /// In a copy of a prepacked module: still to be packed.
    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyType>, (bool,)) {
        (py.get_type::<PyBool>(), (true,))
    }
}
