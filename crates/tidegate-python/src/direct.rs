//! Calls of modules of the most common kind, without the code that finds out about all others.
//!
//! Each function returns None for a call that is not of that kind, also for one that is wrong: then PyTorch's own code
//! of the module runs, down to the same layers, and says what there is to say.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyList, PyTuple};

use crate::call::{Call, State, run};
use crate::config::Config;
use crate::module::{Attributes, Found, fit, layer_of, state_of, wants_gradient};
use crate::prepacked::Prepacked;
use crate::torch::{Tensor, Torch};

/// `module(x, hx)` of an LSTM, GRU or RNN in a call that PyTorch only computes, with `lengths: [B]` or None.
#[pyfunction]
pub(crate) fn direct<'py>(
    py: Python<'py>,
    module: &Bound<'py, PyAny>,
    x: &Bound<'py, PyAny>,
    hx: &Bound<'py, PyAny>,
    lengths: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let torch = Torch::get(py)?;
    let Some(x) = input(torch, x, &[3])? else { return Ok(None) };
    let attributes = Attributes::of(module)?;
    let batch_first: Option<bool> = attributes.get(intern!(py, "batch_first"));
    let layers = attributes.layers(py, x.double).zip(batch_first);
    let Some((config, batch_first)) = layers else { return Ok(None) };
    let Some(weights) = attributes.weights(py, torch)? else { return Ok(None) };
    let array = if batch_first { x.array.transposed() } else { x.array };
    let &[steps, batch, inputs] = array.shape() else { return Ok(None) };
    if steps == 0 || inputs != config.of.input_size {
        return Ok(None);
    }
    let state = match state_of(torch, &config, hx, &[config.scans(), batch])? {
        Found::Zeros => None,
        Found::State(h, c) => Some((h, c)),
        Found::Other => return Ok(None),
    };
    let counts = match lengths {
        None => None,
        Some(lengths) => match counts_of(torch, lengths, steps, batch)? {
            None => return Ok(None),
            counts => counts,
        },
    };
    if torch.is_grad_enabled(py)? && wants_gradient(&x, state.as_ref(), &weights)? {
        if !fit(py, torch, &config, &weights)? {
            return Ok(None);
        }
        let x = if batch_first { transposed(&x.object)? } else { x.object };
        let results = with_gradient(py, &config, x, state, weights, counts)?;
        return answer(py, results.iter(), batch_first).map(Some);
    }
    let (rows, states) = (&[steps, batch], &[config.scans(), batch]);
    let call = Call { x: &x, array, rows: Some(rows), states, state: state.as_ref(), counts };
    let results = without_gradient(py, torch, &config, &attributes, &weights, call)?;
    results.map(|results| answer(py, results.into_iter(), batch_first)).transpose()
}

/// `module(x, hx)` of the cell of `mode` in a call that PyTorch only computes: `x: [B, I]` or `[I]`.
#[pyfunction]
pub(crate) fn direct_cell<'py>(
    py: Python<'py>,
    mode: &str,
    module: &Bound<'py, PyAny>,
    x: &Bound<'py, PyAny>,
    hx: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let torch = Torch::get(py)?;
    let Some(x) = input(torch, x, &[1, 2])? else { return Ok(None) };
    let attributes = Attributes::of(module)?;
    let cell = attributes.cell(py, torch, mode, x.double)?;
    let Some((config, weights)) = cell else { return Ok(None) };
    let Some((&inputs, rows)) = x.array.shape().split_last() else { return Ok(None) };
    if inputs != config.of.input_size {
        return Ok(None);
    }
    let state = match state_of(torch, &config, hx, rows)? {
        Found::Zeros => None,
        Found::State(h, c) => Some((h, c)),
        Found::Other => return Ok(None),
    };
    let states = if torch.is_grad_enabled(py)? && wants_gradient(&x, state.as_ref(), &weights)? {
        if !fit(py, torch, &config, &weights)? {
            return Ok(None);
        }
        with_gradient(py, &config, x.object, state, weights, None)?
    } else {
        let (array, state) = (x.array.in_3d(), state.as_ref());
        let call = Call { x: &x, array, rows: None, states: rows, state, counts: None };
        match without_gradient(py, torch, &config, &attributes, &weights, call)? {
            Some(results) => PyTuple::new(py, results)?,
            None => return Ok(None),
        }
    };
    Ok(Some(if config.of.mode.has_cell_state() {
        states.into_any()
    } else {
        states.get_item(0)?
    }))
}

/// The input, if PyTorch only computes with it and it has as many dimensions as one of `ndims`.
fn input<'py>(
    torch: &Torch,
    x: &Bound<'py, PyAny>,
    ndims: &[usize],
) -> PyResult<Option<Tensor<'py>>> {
    if !torch.is_tensor(x) || !torch.only_computes(x.py())? {
        return Ok(None);
    }
    Ok(torch.read(x)?.filter(|x| ndims.contains(&x.array.shape().len())))
}

/// `lengths` as numbers, if they are `batch` whole numbers from 0 to `steps`: a list, a tuple, or a tensor of them.
fn counts_of(
    torch: &Torch,
    lengths: &Bound<'_, PyAny>,
    steps: usize,
    batch: usize,
) -> PyResult<Option<Vec<usize>>> {
    let py = lengths.py();
    let list = match torch.is_tensor(lengths) {
        true => lengths.call_method0(intern!(py, "tolist"))?,
        false => lengths.clone(),
    };
    if !list.is_exact_instance_of::<PyList>() && !list.is_exact_instance_of::<PyTuple>() {
        return Ok(None);
    }
    let count = |item: Bound<'_, PyAny>| {
        let whole = item.is_exact_instance_of::<PyInt>(); // no bool
        item.extract::<usize>().ok().filter(|&count| whole && count <= steps)
    };
    let counts: Option<Vec<_>> =
        list.try_iter()?.map(|item| Ok(count(item?))).collect::<PyResult<_>>()?;
    Ok(counts.filter(|counts| counts.len() == batch))
}

/// The call where nothing wants a gradient: output (not of a cell), `h_n`, and `c_n` of an LSTM.
fn without_gradient<'py>(
    py: Python<'py>,
    torch: &Torch,
    config: &Config,
    attributes: &Attributes<'py>,
    weights: &[Bound<'py, PyAny>],
    call: Call<'_, 'py>,
) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
    let prepack = attributes.prepack(py)?;
    let found = layer_of(py, torch, config, weights, prepack.as_ref())?;
    let Some(mut ready) = found else { return Ok(None) };
    if prepack.is_some() && !ready.addresses.is_empty() {
        let prepacked = Prepacked::new(py, torch, config, &ready, weights)?;
        (ready.layer, ready.addresses) = (prepacked.layer(), Vec::new());
        attributes.set_prepacked(py, prepacked)?;
    }
    let places = run(py, torch, config, &ready, call)?;
    Ok(Some(places.objects().into_iter().flatten().collect()))
}

/// The call as a node of PyTorch's graph: output (not of a cell), `h_n`, and `c_n` of an LSTM.
fn with_gradient<'py>(
    py: Python<'py>,
    config: &Config,
    x: Bound<'py, PyAny>,
    state: Option<State<'py>>,
    weights: Vec<Bound<'py, PyAny>>,
    counts: Option<Vec<usize>>,
) -> PyResult<Bound<'py, PyTuple>> {
    static NODE: PyOnceLock<[Py<PyAny>; 3]> = PyOnceLock::new();
    let [apply, nothing, extra] = NODE.get_or_try_init(py, || {
        let module = py.import("tidegate._call")?;
        let apply = module.getattr("Function")?.getattr("apply")?;
        let extra = [module.getattr("NOTHING")?, module.getattr("Extra")?];
        let [nothing, extra] = extra.map(Bound::unbind);
        Ok::<_, PyErr>([apply.unbind(), nothing, extra])
    })?;
    let (h, c) = state.map_or((None, None), |(h, c)| (Some(h.object), c.map(|c| c.object)));
    let extra = match counts {
        Some(counts) => extra.bind(py).call1((py.None(), counts))?,
        None => nothing.bind(py).clone(),
    };
    let first = (config.to_python(py)?, extra, x, h, c).into_pyobject(py)?;
    let weights = PyTuple::new(py, weights)?;
    let arguments = first.as_sequence().concat(weights.as_sequence())?.to_tuple()?;
    Ok(apply.bind(py).call1(arguments)?.cast_into()?)
}

/// What PyTorch's layers return, of output, `h_n`, and `c_n` of an LSTM.
fn answer<'py>(
    py: Python<'py>,
    mut results: impl Iterator<Item = Bound<'py, PyAny>>,
    batch_first: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let output = results.next();
    let output = match output {
        Some(output) if batch_first => Some(transposed(&output)?),
        output => output,
    };
    let answer = match (results.next(), results.next()) {
        (h_n, Some(c_n)) => (output, (h_n, c_n)).into_pyobject(py)?,
        (h_n, None) => (output, h_n).into_pyobject(py)?,
    };
    Ok(answer.into_any())
}

fn transposed<'py>(tensor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    tensor.call_method1(intern!(tensor.py(), "transpose"), (0, 1))
}
