//! Files with trained models.

use std::path::PathBuf;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tidegate_weights::{Checkpoint, Error};

use crate::layer::{Core, Layer, Packed};

fn file_error(path: &std::path::Path, error: &Error) -> PyErr {
    let message = format!("{}: {error}", path.display());
    if path.is_file() { PyValueError::new_err(message) } else { PyOSError::new_err(message) }
}

/// What the constructor of a layer was given, and where it was found.
fn described<'py>(
    py: Python<'py>,
    found: &tidegate_weights::Layer,
) -> PyResult<Bound<'py, PyDict>> {
    let (dict, config) = (PyDict::new(py), &found.config);
    dict.set_item("name", found.prefix.trim_end_matches('.'))?;
    dict.set_item("layer", config.to_string())?;
    dict.set_item("cell", found.cell)?;
    dict.set_item("input_size", config.input_size)?;
    dict.set_item("hidden_size", config.hidden_size)?;
    dict.set_item("num_layers", config.num_layers)?;
    dict.set_item("num_directions", config.num_directions())?;
    dict.set_item("output_size", config.output_size())?;
    dict.set_item("has_cell_state", config.mode.has_cell_state())?;
    dict.set_item("parameters", found.parameters)?;
    Ok(dict)
}

/// The recurrent layers in a file.
#[pyfunction]
pub(crate) fn inspect(py: Python<'_>, path: PathBuf) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let layers = py.detach(|| Checkpoint::open(&path)?.discover());
    let layers = layers.map_err(|error| file_error(&path, &error))?;
    layers.iter().map(|found| described(py, found)).collect()
}

/// The layer called `name` of a file, or its only one, and what it is.
#[pyfunction]
#[pyo3(signature = (path, name=None, double=false))]
pub(crate) fn load<'py>(
    py: Python<'py>,
    path: PathBuf,
    name: Option<String>,
    double: bool,
) -> PyResult<(Layer, Bound<'py, PyDict>)> {
    let loaded = py.detach(|| {
        let checkpoint = Checkpoint::open(&path)?;
        let found = checkpoint.layer(name.as_deref())?;
        let core = match double {
            false => Core::F32(Packed::new(checkpoint.load(&found)?)),
            true => Core::F64(Packed::new(checkpoint.load(&found)?)),
        };
        Ok((Layer(core), found))
    });
    let (layer, found) = loaded.map_err(|error| file_error(&path, &error))?;
    let description = described(py, &found)?;
    Ok((layer, description))
}
