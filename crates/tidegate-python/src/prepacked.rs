//! Layers whose weights are taken as unchanged until PyTorch counts a change.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType, PyWeakrefReference};

use crate::array::Array;
use crate::config::Config;
use crate::layer::Layer;
use crate::registry::Weights;
use crate::torch::Torch;

/// A layer for some weights, and how those were when it was packed.
#[pyclass(frozen, module = "tidegate._core")]
pub(crate) struct Prepacked {
    config: [usize; Config::WORDS],
    /// Of this module alone: nobody packs other weights into it.
    layer: Arc<Layer>,
    weights: Vec<Weight>,
}

struct Weight {
    tensor: Py<PyWeakrefReference>,
    /// PyTorch's count of its changes.
    version: Py<PyAny>,
    array: Array,
}

impl Prepacked {
    /// Of the layer that `ready` is, for these weights.
    pub(crate) fn new(
        py: Python<'_>,
        torch: &Torch,
        config: &Config,
        ready: &Weights<'_>,
        weights: &[Bound<'_, PyAny>],
    ) -> PyResult<Self> {
        let (words, mut remembered) = (config.words(), Vec::new());
        for weight in weights {
            let counted = !weight.call_method0(intern!(py, "is_inference"))?.is_truthy()?;
            let Some(read) = torch.read(weight)?.filter(|_| counted) else { continue };
            let (tensor, version) = (PyWeakrefReference::new(weight)?, version(weight)?);
            let (tensor, version) = (tensor.unbind(), version.unbind());
            remembered.push(Weight { tensor, version, array: read.array });
        }
        // The changes were counted before: one that comes now is seen next time.
        let layer = Arc::new(ready.layer.packed(py, &ready.addresses)?);
        Ok(Self { config: words, layer, weights: remembered })
    }

    pub(crate) fn layer(&self) -> Arc<Layer> {
        self.layer.clone()
    }

    /// Whether the layer has the values of these very tensors, as far as PyTorch counts changes.
    pub(crate) fn is_of(
        &self,
        torch: &Torch,
        config: &Config,
        weights: &[Bound<'_, PyAny>],
    ) -> PyResult<bool> {
        if self.config != config.words() || self.weights.len() != weights.len() {
            return Ok(false); // also where some could not be remembered
        }
        for (known, weight) in self.weights.iter().zip(weights) {
            let tensor = known.tensor.bind(weight.py()).upgrade();
            let same = |(array, double)| array == known.array && double == config.double;
            if !tensor.is_some_and(|tensor| tensor.is(weight))
                || !version(weight)?.eq(&known.version)?
                || !torch.describe(weight)?.is_some_and(same)
            {
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
