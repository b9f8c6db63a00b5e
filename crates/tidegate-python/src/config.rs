//! Which layers: the named tuple `Config` of the package's Python part.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tidegate::Mode;

use crate::layer::value_error;

/// A stack of layers, and whether its numbers are float64.
#[derive(Copy, Clone)]
pub(crate) struct Config {
    pub(crate) of: tidegate::Config,
    pub(crate) double: bool,
}

/// PyTorch's names of the modes.
const MODES: [(&str, Mode); 4] = [
    ("LSTM", Mode::Lstm),
    ("GRU", Mode::Gru),
    ("RNN_TANH", Mode::RnnTanh),
    ("RNN_RELU", Mode::RnnRelu),
];

/// The mode that PyTorch calls `name`.
pub(crate) fn mode(name: &str) -> Option<Mode> {
    MODES.iter().find(|(known, _)| *known == name).map(|&(_, mode)| mode)
}

impl Config {
    /// Numbers that are all of a configuration.
    pub(crate) const WORDS: usize = 8;

    /// All of it, in numbers.
    pub(crate) fn words(&self) -> [usize; Self::WORDS] {
        let of = &self.of;
        let [bias, bidirectional, double] =
            [of.bias, of.bidirectional, self.double].map(usize::from);
        let mode = of.mode as usize;
        [
            mode,
            of.input_size,
            of.hidden_size,
            of.num_layers,
            bias,
            bidirectional,
            of.proj_size,
            double,
        ]
    }

    /// Scans: layers times directions.
    pub(crate) fn scans(&self) -> usize {
        self.of.num_layers * self.of.num_directions()
    }

    /// Whether there are so many parameters, in arithmetic that any numbers can be put to.
    pub(crate) fn has_parameters(&self, count: usize) -> bool {
        let of = &self.of;
        let each = 2 + 2 * usize::from(of.bias) + usize::from(of.proj_size > 0);
        of.num_layers.checked_mul(of.num_directions() * each) == Some(count)
    }

    /// The sizes of `h`, and of `c` of an LSTM.
    pub(crate) fn state_sizes(&self) -> (usize, Option<usize>) {
        let c = self.of.mode.has_cell_state().then_some(self.of.hidden_size);
        (self.of.output_size(), c)
    }

    /// The named tuple.
    pub(crate) fn to_python<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = CLASS.get_or_try_init(py, || {
            let module = py.import(intern!(py, "tidegate._call"))?;
            Ok::<_, PyErr>(module.getattr(intern!(py, "Config"))?.unbind())
        })?;
        let of = &self.of;
        let name = MODES.iter().find(|(_, mode)| *mode == of.mode).map(|(name, _)| name);
        class.bind(py).call1((
            name,
            of.input_size,
            of.hidden_size,
            of.num_layers,
            of.bias,
            of.bidirectional,
            of.proj_size,
            self.double,
        ))
    }
}

/// From the named tuple, or any tuple of its fields.
impl<'py> FromPyObject<'_, 'py> for Config {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (name, input_size, hidden_size, num_layers, bias, bidirectional, proj_size, double): (
            String,
            usize,
            usize,
            usize,
            bool,
            bool,
            usize,
            bool,
        ) = object.extract()?;
        let mode = mode(&name)
            .ok_or_else(|| PyValueError::new_err(format!("Unrecognized RNN mode: {name}")))?;
        let of = tidegate::Config::new(mode, input_size, hidden_size);
        let of = tidegate::Config { num_layers, bias, bidirectional, proj_size, ..of };
        of.validate().map_err(value_error)?;
        Ok(Self { of, double })
    }
}
