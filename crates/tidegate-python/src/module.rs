//! What a module of PyTorch is made of: its sizes, weights, and the state it is called with.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use tidegate::Mode;

use crate::call::State;
use crate::config::{Config, mode};
use crate::prepacked::Prepacked;
use crate::registry::{self, Weights};
use crate::torch::{Tensor, Torch, requires_grad};

/// The attributes of a module.
pub(crate) struct Attributes<'py>(Bound<'py, PyDict>);

impl<'py> Attributes<'py> {
    pub(crate) fn of(module: &Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self(module.getattr(intern!(module.py(), "__dict__"))?.cast_into()?))
    }

    pub(crate) fn get<T>(&self, name: &Bound<'py, PyString>) -> Option<T>
    where
        T: for<'a> FromPyObject<'a, 'py>,
    {
        self.0.get_item(name).ok()??.extract().ok()
    }

    /// The layers of an LSTM, GRU or RNN; None with dropout.
    pub(crate) fn layers(&self, py: Python<'py>, double: bool) -> Option<Config> {
        let name: Bound<'_, PyString> = self.get(intern!(py, "mode"))?;
        let of = tidegate::Config {
            num_layers: self.get(intern!(py, "num_layers"))?,
            bidirectional: self.get(intern!(py, "bidirectional"))?,
            proj_size: self.get(intern!(py, "proj_size"))?,
            ..self.sizes(py, mode(&name.to_cow().ok()?)?)?
        };
        let dropout: f64 = self.get(intern!(py, "dropout"))?;
        let training: bool = self.get(intern!(py, "training"))?;
        let drops = training && dropout != 0.0;
        (!drops && of.validate().is_ok()).then_some(Config { of, double })
    }

    fn sizes(&self, py: Python<'py>, mode: Mode) -> Option<tidegate::Config> {
        let (input_size, hidden_size) = (intern!(py, "input_size"), intern!(py, "hidden_size"));
        let of = tidegate::Config::new(mode, self.get(input_size)?, self.get(hidden_size)?);
        Some(tidegate::Config { bias: self.get(intern!(py, "bias"))?, ..of })
    }

    /// The weights of an LSTM, GRU or RNN, in PyTorch's order; None if one is not a parameter, as with a parametrization.
    pub(crate) fn weights(
        &self,
        py: Python<'py>,
        torch: &Torch,
    ) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
        let names: Option<Bound<'py, PyList>> = self.get(intern!(py, "_flat_weights_names"));
        let Some((names, parameters)) = names.zip(self.parameters(py)) else { return Ok(None) };
        let weights: Option<Vec<_>> =
            names.iter().map(|name| parameters.get_item(name)).collect::<PyResult<_>>()?;
        Ok(weights.filter(|weights| weights.iter().all(|weight| torch.is_exact(weight))))
    }

    fn parameters(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        self.get(intern!(py, "_parameters"))
    }

    /// The layer that is a cell of `mode`, and its weights; None if they and the attribute `bias` do not agree.
    pub(crate) fn cell(
        &self,
        py: Python<'py>,
        torch: &Torch,
        name: &str,
        double: bool,
    ) -> PyResult<Option<(Config, Vec<Bound<'py, PyAny>>)>> {
        let of = mode(name).and_then(|mode| self.sizes(py, mode));
        let Some((of, parameters)) = of.zip(self.parameters(py)) else { return Ok(None) };
        let names = [
            intern!(py, "weight_ih"),
            intern!(py, "weight_hh"),
            intern!(py, "bias_ih"),
            intern!(py, "bias_hh"),
        ];
        let weights: Option<Vec<_>> =
            names.iter().map(|name| parameters.get_item(name)).collect::<PyResult<_>>()?;
        let Some(mut weights) = weights.filter(|_| of.validate().is_ok()) else { return Ok(None) };
        if !of.bias && weights[2..].iter().all(|bias| bias.is_none()) {
            weights.truncate(2);
        }
        let agree = weights.len() == if of.bias { 4 } else { 2 };
        let fit = agree && weights.iter().all(|weight| torch.is_exact(weight));
        Ok(fit.then_some((Config { of, double }, weights)))
    }

    /// What `prepack` has left, if the module is to be prepacked.
    pub(crate) fn prepack(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let prepack = self.0.get_item(intern!(py, "_prepacked"))?;
        Ok(prepack.filter(|prepack| prepack.is_truthy().unwrap_or(false)))
    }

    pub(crate) fn set_prepacked(&self, py: Python<'py>, prepacked: Prepacked) -> PyResult<()> {
        self.0.set_item(intern!(py, "_prepacked"), prepacked)
    }
}

/// The state that a module is called with.
pub(crate) enum Found<'py> {
    /// None: begin with zeros.
    Zeros,
    /// `h`, and `c` of an LSTM.
    State(Tensor<'py>, Option<Tensor<'py>>),
    /// Another than the layers take.
    Other,
}

/// The state `hx`, of tensors of these sizes and the number of units.
pub(crate) fn state_of<'py>(
    torch: &Torch,
    config: &Config,
    hx: &Bound<'py, PyAny>,
    sizes: &[usize],
) -> PyResult<Found<'py>> {
    if hx.is_none() {
        return Ok(Found::Zeros);
    }
    let (size, cells) = config.state_sizes();
    let part = |part: &Bound<'py, PyAny>, size: usize| -> PyResult<Option<Tensor<'py>>> {
        let fits = |tensor: &Tensor<'_>| {
            let shape = tensor.array.shape().split_last();
            tensor.double == config.double && shape == Some((&size, sizes))
        };
        let tensor = if torch.is_tensor(part) { torch.read(part)? } else { None };
        Ok(tensor.filter(fits))
    };
    let Some(cells) = cells else {
        return Ok(part(hx, size)?.map_or(Found::Other, |h| Found::State(h, None)));
    };
    let Ok(pair) = hx.cast_exact::<PyTuple>() else { return Ok(Found::Other) };
    if pair.len() != 2 {
        return Ok(Found::Other);
    }
    let (h, c) = (part(&pair.get_item(0)?, size)?, part(&pair.get_item(1)?, cells)?);
    Ok(h.zip(c).map_or(Found::Other, |(h, c)| Found::State(h, Some(c))))
}

/// Whether something that a call reads wants a gradient.
pub(crate) fn wants_gradient(
    x: &Tensor<'_>,
    state: Option<&State<'_>>,
    weights: &[Bound<'_, PyAny>],
) -> PyResult<bool> {
    let state = state.into_iter().flat_map(|(h, c)| [Some(h), c.as_ref()]).flatten();
    let tensors = state.chain([x]).map(|tensor| &tensor.object);
    for tensor in weights.iter().chain(tensors) {
        if requires_grad(tensor)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The weights as our kernels read them; None if they are others than `config` says.
fn readable<'py>(
    torch: &Torch,
    config: &Config,
    weights: &[Bound<'py, PyAny>],
) -> PyResult<Option<Vec<Tensor<'py>>>> {
    weights
        .iter()
        .map(|weight| Ok(torch.read(weight)?.filter(|tensor| tensor.double == config.double)))
        .collect()
}

/// Whether the weights are those of `config`.
pub(crate) fn fit(
    py: Python<'_>,
    torch: &Torch,
    config: &Config,
    weights: &[Bound<'_, PyAny>],
) -> PyResult<bool> {
    let Some(weights) = readable(torch, config, weights)? else { return Ok(false) };
    Ok(registry::layer_of(py, config, &weights)?.is_some())
}

/// Our layer for the weights; without addresses if they were packed and have not changed since.
pub(crate) fn layer_of<'py>(
    py: Python<'py>,
    torch: &Torch,
    config: &Config,
    weights: &[Bound<'py, PyAny>],
    prepack: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Weights<'py>>> {
    if let Some(prepacked) = prepack.and_then(|prepack| prepack.cast::<Prepacked>().ok())
        && prepacked.get().is_of(torch, config, weights)?
    {
        let layer = prepacked.get().layer();
        return Ok(Some(Weights { layer, addresses: Vec::new(), alive: Vec::new() }));
    }
    let Some(weights) = readable(torch, config, weights)? else { return Ok(None) };
    registry::packed_of(py, config, weights)
}
