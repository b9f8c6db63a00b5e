//! Our layers for tensors of weights.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::config::Config;
use crate::layer::Layer;
use crate::saved::lock;
use crate::torch::{Tensor, Torch};

/// As many layers are known at most; then the oldest is forgotten.
const MOST_LAYERS: usize = 1024;

/// As many layers, of at most so many numbers, wait for other weights when theirs are gone: functions of parameters
/// are new tensors in every call.
const MOST_SPARE: usize = 8;
const MOST_SPARE_NUMBERS: usize = 1 << 20;

/// Configuration, and addresses of the weights.
type Key = Vec<usize>;

/// Layers by their weights, until the first weight is gone.
// INVARIANT: locked only by who holds the interpreter, and no Python code runs meanwhile; so a fork finds it free.
static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

#[derive(Default)]
struct Registry {
    known: HashMap<Key, Known>,
    /// From the oldest.
    keys: BTreeMap<u64, Key>,
    spare: VecDeque<(Key, Arc<Layer>)>,
    next: u64,
}

struct Known {
    id: u64,
    layer: Arc<Layer>,
    numbers: usize,
    /// Python's `weakref.finalize`, which calls [`forget`].
    end: Py<PyAny>,
}

/// Calls `f` with the registry.
fn registry<T>(f: impl FnOnce(&mut Registry) -> T) -> T {
    f(lock(&REGISTRY).get_or_insert_default())
}

/// A layer, and where the weights are that it is to have.
pub(crate) struct Weights<'py> {
    pub(crate) layer: Arc<Layer>,
    pub(crate) addresses: Vec<usize>,
    /// Those at the addresses; copies where the weights are not contiguous.
    pub(crate) alive: Vec<Tensor<'py>>,
}

/// Our layer for `weights` and where they are; None if they do not have the shapes of `config`.
pub(crate) fn packed_of<'py>(
    py: Python<'py>,
    config: &Config,
    weights: Vec<Tensor<'py>>,
) -> PyResult<Option<Weights<'py>>> {
    let Some(layer) = layer_of(py, config, &weights)? else { return Ok(None) };
    let torch = Torch::get(py)?;
    let contiguous = |weight: Tensor<'py>| match weight.array.is_contiguous() {
        true => Ok(weight),
        false => {
            let copy = weight.object.call_method0(intern!(py, "contiguous"))?;
            torch.need(&copy, config.double)
        }
    };
    let alive: Vec<_> = weights.into_iter().map(contiguous).collect::<PyResult<_>>()?;
    let addresses = alive.iter().map(|weight| weight.array.address()).collect();
    Ok(Some(Weights { layer, addresses, alive }))
}

/// Our layer for `weights`; None if they do not have the shapes of `config`.
pub(crate) fn layer_of(
    py: Python<'_>,
    config: &Config,
    weights: &[Tensor<'_>],
) -> PyResult<Option<Arc<Layer>>> {
    let words = config.words();
    let mut key = Key::with_capacity(words.len() + weights.len());
    key.extend(words);
    key.extend(weights.iter().map(|weight| weight.array.address()));
    let shapes = || weights.iter().map(|weight| weight.array.shape());
    let known = registry(|registry| registry.known.get(&key).map(|known| known.layer.clone()));
    if let Some(layer) = known.filter(|layer| layer.has_shapes(shapes())) {
        return Ok(Some(layer));
    }
    let fit = config.has_parameters(weights.len())
        && config.of.parameters().iter().zip(shapes()).all(|((_, shape), got)| shape == got);
    match fit {
        true => make(py, config, key, weights).map(Some),
        false => Ok(None),
    }
}

/// A layer for weights that are not known.
fn make(py: Python<'_>, config: &Config, key: Key, weights: &[Tensor<'_>]) -> PyResult<Arc<Layer>> {
    let spare = registry(|registry| {
        let at = registry.spare.iter().position(|(of, _)| of[..] == config.words())?;
        registry.spare.remove(at)
    });
    let layer = match spare {
        Some((_, layer)) => layer,
        None => Arc::new(Layer::new(config)?),
    };
    let first = weights.first().ok_or_else(|| PyValueError::new_err("a layer without weights"))?;
    let id = registry(|registry| {
        registry.next += 1;
        registry.next
    });
    let forget = wrap_pyfunction!(forget, py)?;
    let finalize = py.import(intern!(py, "weakref"))?.getattr(intern!(py, "finalize"))?;
    let end = finalize.call1((&first.object, forget, id))?;
    end.setattr(intern!(py, "atexit"), false)?;
    let numbers = weights.iter().map(|weight| weight.array.len()).sum();
    let known = Known { id, layer: layer.clone(), numbers, end: end.unbind() };
    let gone = registry(|registry| registry.insert(key, known));
    for known in gone {
        known.end.bind(py).call_method0(intern!(py, "detach"))?;
    }
    Ok(layer)
}

impl Registry {
    /// Returns those that had to go.
    fn insert(&mut self, key: Key, known: Known) -> Vec<Known> {
        self.keys.insert(known.id, key.clone());
        let mut gone: Vec<_> = self.known.insert(key, known).into_iter().collect();
        for known in &gone {
            self.keys.remove(&known.id);
        }
        if self.known.len() > MOST_LAYERS {
            let oldest = self.keys.pop_first().and_then(|(_, key)| self.known.remove(&key));
            gone.extend(oldest);
        }
        gone
    }

    fn forget(&mut self, id: u64) -> Option<Known> {
        let key = self.keys.remove(&id)?;
        let known = self.known.remove(&key)?;
        if known.numbers <= MOST_SPARE_NUMBERS {
            let of = key[..Config::WORDS].to_vec();
            self.spare.retain(|(spare, _)| *spare != of);
            self.spare.push_back((of, known.layer.clone()));
            if self.spare.len() > MOST_SPARE {
                self.spare.pop_front();
            }
        }
        Some(known)
    }
}

/// Forgets the layer of weights that are gone.
#[pyfunction]
fn forget(id: u64) {
    drop(registry(|registry| registry.forget(id)));
}

/// The number of layers that are known, and of those that wait for other weights; for tests.
#[pyfunction]
pub(crate) fn layers_kept() -> (usize, usize) {
    registry(|registry| (registry.known.len(), registry.spare.len()))
}
