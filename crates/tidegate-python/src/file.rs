//! Files with trained models.

use std::error::Error as _;
use std::path::PathBuf;

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tidegate::Mode;
use tidegate_weights::{Checkpoint, Dtype, Error};

use crate::layer::{Core, Layer, Packed};

/// `FileNotFoundError` and its likes where the file cannot be read, `MemoryError`, else `ValueError`.
fn file_error(path: &std::path::Path, error: Error) -> PyErr {
    match error {
        Error::Read { path, source } => {
            let message = format!("cannot read {}: {source}", path.display());
            std::io::Error::new(source.kind(), message).into()
        }
        Error::OutOfMemory { .. } => PyMemoryError::new_err(format!("{}: {error}", path.display())),
        _ => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            PyValueError::new_err(format!("{}: {error}{cause}", path.display()))
        }
    }
}

/// What the constructor of a layer was given, and where it was found.
fn described<'py>(
    py: Python<'py>,
    found: &tidegate_weights::Layer,
) -> PyResult<Bound<'py, PyDict>> {
    let (dict, config) = (PyDict::new(py), &found.config);
    dict.set_item("name", found.prefix.trim_end_matches('.'))?;
    dict.set_item("layer", found.to_string())?;
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
    let layers = layers.map_err(|error| file_error(&path, error))?;
    layers.iter().map(|found| described(py, found)).collect()
}

/// The layer called `name` of a file, or its only one, in float64 if `double` or, where that is not said, if the file has it
/// so; an RNN with `nonlinearity`, or tanh; and what it is.
#[pyfunction]
pub(crate) fn load<'py>(
    py: Python<'py>,
    path: PathBuf,
    name: Option<String>,
    double: Option<bool>,
    nonlinearity: Option<&str>,
) -> PyResult<(Layer, Bound<'py, PyDict>)> {
    let found = py.detach(|| {
        let checkpoint = Checkpoint::open(&path)?;
        let found = checkpoint.layer(name.as_deref())?;
        Ok((checkpoint, found))
    });
    let (checkpoint, mut found) = found.map_err(|error| file_error(&path, error))?;
    if let Some(nonlinearity) = nonlinearity {
        found.config.mode = mode_of(&found, nonlinearity)?;
    }
    let double = double.unwrap_or(found.dtype == Dtype::F64);
    let failed = |error| file_error(&path, error);
    let core = py.detach(|| {
        Ok::<_, PyErr>(match double {
            false => Core::F32(Packed::new(checkpoint.load(&found).map_err(failed)?)?),
            true => Core::F64(Packed::new(checkpoint.load(&found).map_err(failed)?)?),
        })
    });
    let layer = Layer(core?);
    let description = described(py, &found)?;
    description.set_item("double", double)?;
    Ok((layer, description))
}

/// The mode of the RNN `found` with `nonlinearity`.
fn mode_of(found: &tidegate_weights::Layer, nonlinearity: &str) -> PyResult<Mode> {
    if !matches!(found.config.mode, Mode::RnnTanh | Mode::RnnRelu) {
        let message = format!("nonlinearity: only of an RNN, and this is {found}");
        return Err(PyValueError::new_err(message));
    }
    match nonlinearity {
        "tanh" => Ok(Mode::RnnTanh),
        "relu" => Ok(Mode::RnnRelu),
        _ => {
            let message = format!("nonlinearity: expected 'tanh' or 'relu', got '{nonlinearity}'");
            Err(PyValueError::new_err(message))
        }
    }
}
