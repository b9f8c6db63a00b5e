//! One call on PyTorch's tensors, forward and backward.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tidegate::{Packing, set_num_threads};

use crate::array::{Array, Block};
use crate::config::Config;
use crate::layer::{Inputs, Into, Results, Upstreams, value_error};
use crate::registry::{Weights, packed_of};
use crate::saved::Saved;
use crate::torch::{Tensor, Torch};

/// `h`, and `c` of an LSTM.
pub(crate) type State<'py> = (Tensor<'py>, Option<Tensor<'py>>);

/// The output, not of a cell; `h_n`; and `c_n` of an LSTM.
type Objects<'py> = [Option<Bound<'py, PyAny>>; 3];

/// Where a call's results go: tensors that PyTorch has made.
pub(crate) struct Places<'py> {
    output: Output<'py>,
    pub(crate) h_n: Tensor<'py>,
    pub(crate) c_n: Option<Tensor<'py>>,
}

enum Output<'py> {
    Tensor(Tensor<'py>),
    /// Of a cell, which returns its `h_n` alone: room for as many numbers of at most 8 bytes.
    Nowhere(Vec<u64>),
}

impl<'py> Places<'py> {
    /// For an output of the sizes `rows` and the number of features, none of a cell; and for states of the sizes `states` and
    /// the number of units, like those of `state`; of the type of `x`.
    fn new(
        torch: &Torch,
        config: &Config,
        x: &Tensor<'py>,
        rows: Option<&[usize]>,
        states: &[usize],
        state: Option<&State<'py>>,
    ) -> PyResult<Self> {
        let (size, cells) = config.state_sizes();
        let (h, c) = state.map_or((x, None), |(h, c)| (h, c.as_ref()));
        let place = |like, sizes: &[usize], last| torch.empty(like, &[sizes, &[last]].concat());
        let output = match rows {
            Some(rows) => Output::Tensor(place(h, rows, config.of.num_directions() * size)?),
            None => Output::Nowhere(vec![0; states.iter().product::<usize>() * size]),
        };
        let h_n = place(h, states, size)?;
        let c_n = cells.map(|size| place(c.unwrap_or(x), states, size)).transpose()?;
        Ok(Self { output, h_n, c_n })
    }

    fn results(&mut self) -> Results {
        let output = match &mut self.output {
            Output::Tensor(tensor) => tensor.block(),
            Output::Nowhere(room) => Block::new(room.as_mut_ptr() as usize, room.len()),
        };
        (output, self.h_n.block(), self.c_n.as_ref().map(Tensor::block))
    }

    pub(crate) fn objects(self) -> Objects<'py> {
        let output = match self.output {
            Output::Tensor(tensor) => Some(tensor.object),
            Output::Nowhere(_) => None,
        };
        [output, Some(self.h_n.object), self.c_n.map(|c_n| c_n.object)]
    }
}

/// What a layer is called with, if nothing is packed, reset or kept for the way back.
pub(crate) struct Call<'a, 'py> {
    pub(crate) x: &'a Tensor<'py>,
    /// Of `x`, as `[T, B, I]`.
    pub(crate) array: Array,
    /// `[T, B]`; None for a cell.
    pub(crate) rows: Option<&'a [usize]>,
    /// Sizes of a state without the last.
    pub(crate) states: &'a [usize],
    pub(crate) state: Option<&'a State<'py>>,
    /// The steps of each sequence, if not all.
    pub(crate) counts: Option<Vec<usize>>,
}

/// Runs a layer with these weights, or its own if they are not given an address.
pub(crate) fn run<'py>(
    py: Python<'py>,
    torch: &Torch,
    config: &Config,
    Weights { layer, addresses, .. }: &Weights<'py>,
    call: Call<'_, 'py>,
) -> PyResult<Places<'py>> {
    let Call { x, array, rows, states, state, counts } = call;
    let mut places = Places::new(torch, config, x, rows, states, state)?;
    let inputs = inputs(array, state, counts);
    set_num_threads(torch.num_threads(py)?);
    layer.forward(py, addresses, &inputs, places.results(), false)?;
    Ok(places)
}

/// The input and the state as a layer takes them.
fn inputs(x: Array, state: Option<&State<'_>>, lengths: Option<Vec<usize>>) -> Inputs {
    let state = state.map(|(h, c)| (h.array.in_3d(), c.as_ref().map(|c| c.array.in_3d())));
    Inputs { x, state, lengths, packing: None, resets: None }
}

/// Whether these are the input and the state of a cell: `[B, *]` or `[*]`, not packed sequences with their state.
fn is_cell(x: &Tensor<'_>, h: Option<&Tensor<'_>>) -> bool {
    [Some(x), h].into_iter().flatten().all(|tensor| tensor.array.shape().len() < 3)
}

/// The layer for tensors that were checked to be of `config`.
fn weights_of<'py>(
    torch: &Torch,
    config: &Config,
    weights: &[Bound<'py, PyAny>],
) -> PyResult<Weights<'py>> {
    let tensors: Vec<_> =
        weights.iter().map(|weight| torch.need(weight, config.double)).collect::<PyResult<_>>()?;
    let first = weights.first().ok_or_else(|| PyValueError::new_err("a layer without weights"))?;
    packed_of(first.py(), config, tensors)?
        .ok_or_else(|| PyValueError::new_err("the weights do not have the sizes of the layer"))
}

/// Runs the layers over `x: [T, B, I]`, over packed sequences `[rows, I]` with `batch_sizes` and a state, or as a cell over
/// `[B, I]` or `[I]`, which has no output. From zeros if `h` is None.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "one call of a private function, for speed")]
pub(crate) fn forward<'py>(
    py: Python<'py>,
    config: Config,
    weights: Vec<Bound<'py, PyAny>>,
    x: Bound<'py, PyAny>,
    h: Option<Bound<'py, PyAny>>,
    c: Option<Bound<'py, PyAny>>,
    batch_sizes: Option<Vec<usize>>,
    lengths: Option<Vec<usize>>,
    resets: Option<Block>,
    train: bool,
) -> PyResult<(Objects<'py>, Option<Saved>)> {
    let torch = Torch::get(py)?;
    let need = |tensor: &Bound<'py, PyAny>| torch.need(tensor, config.double);
    let weights = weights_of(torch, &config, &weights)?;
    let x = need(&x)?;
    let state = match h {
        Some(h) => Some((need(&h)?, c.as_ref().map(need).transpose()?)),
        None => None,
    };
    let h = state.as_ref().map(|(h, _)| h);
    let cell = is_cell(&x, h);
    let rows = |tensor: &Tensor<'_>| Some(tensor.array.shape().split_last()?.1.to_vec());
    let of_x = rows(&x).ok_or_else(|| PyValueError::new_err("x has no dimensions"))?;
    let states = match h.and_then(rows) {
        Some(states) => states,
        None if cell => of_x.clone(),
        None => vec![config.scans(), of_x.last().copied().unwrap_or(0)],
    };
    let output = (!cell).then_some(&of_x[..]);
    let mut places = Places::new(torch, &config, &x, output, &states, state.as_ref())?;
    let packing = batch_sizes.map(|sizes| Packing::new(sizes, None)).transpose();
    let array = if cell { x.array.in_3d() } else { x.array };
    let inputs = Inputs {
        packing: packing.map_err(value_error)?,
        resets: resets.map(mask),
        ..inputs(array, state.as_ref(), lengths)
    };
    set_num_threads(torch.num_threads(py)?);
    let Weights { layer, addresses, .. } = &weights;
    let saved = layer.forward(py, addresses, &inputs, places.results(), train)?;
    Ok((places.objects(), saved))
}

/// The gradients of `[x, h, c, *weights]` that are `wanted`, else None; None at all if our kernels cannot read what arrives.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "one call of a private function, for speed")]
pub(crate) fn backward<'py>(
    py: Python<'py>,
    config: Config,
    saved: &Saved,
    weights: Vec<Bound<'py, PyAny>>,
    x: Bound<'py, PyAny>,
    h: Option<Bound<'py, PyAny>>,
    c: Option<Bound<'py, PyAny>>,
    upstream: [Option<Bound<'py, PyAny>>; 3],
    wanted: Vec<bool>,
) -> PyResult<Option<Vec<Option<Bound<'py, PyAny>>>>> {
    let torch = Torch::get(py)?;
    let need = |tensor: &Bound<'py, PyAny>| torch.need(tensor, config.double);
    let packed = weights_of(torch, &config, &weights)?;
    let x = need(&x)?;
    let [output, h_n, c_n] = upstream.each_ref().map(|d| d.as_ref().map(need).transpose());
    let upstream = match (output, h_n, c_n) {
        (Ok(output), Ok(h_n), Ok(c_n)) => [output, h_n, c_n],
        _ => return Ok(None),
    };
    let cell = is_cell(&x, h.as_ref().map(need).transpose()?.as_ref());
    let states = [Some(x.object.clone()), h, c];
    let states = states.map(|tensor| tensor.as_ref().map(need).transpose());
    let states = states.into_iter().collect::<PyResult<Vec<_>>>()?;
    let of = states.iter().map(Option::as_ref).chain(packed.alive.iter().map(Some)).zip(wanted);
    let place = |tensor: &Tensor<'py>| torch.empty(tensor, tensor.array.shape());
    let gradients: Vec<Option<Tensor<'py>>> = of
        .map(|(tensor, wanted)| tensor.filter(|_| wanted).map(place).transpose())
        .collect::<PyResult<_>>()?;
    let blocks: Vec<Option<Block>> =
        gradients.iter().map(|gradient| gradient.as_ref().map(Tensor::block)).collect();
    let (states, parameters) = blocks
        .split_first_chunk()
        .ok_or_else(|| PyValueError::new_err("wanted does not say it for every tensor"))?;
    let parameters = match parameters.iter().any(Option::is_some) {
        true => parameters.to_vec(),
        false => Vec::new(),
    };
    let [output, h_n, c_n] = upstream.each_ref().map(|d| d.as_ref().map(|d| d.array));
    let upstreams = Upstreams {
        x: if cell { x.array.in_3d() } else { x.array },
        upstream: [output, h_n.map(Array::in_3d), c_n.map(Array::in_3d)],
    };
    set_num_threads(torch.num_threads(py)?);
    let into = Into { states: *states, parameters };
    packed.layer.backward(py, &packed.addresses, saved, &upstreams, into)?;
    let objects = gradients.into_iter().map(|gradient| gradient.map(|gradient| gradient.object));
    Ok(Some(objects.collect()))
}

/// Whether each byte is not zero.
#[allow(unsafe_code, reason = "a tensor comes as its address")]
fn mask(resets: Block) -> Vec<bool> {
    // SAFETY: the caller's contiguous array of bytes.
    unsafe { resets.read::<u8>() }.iter().map(|&cut| cut != 0).collect()
}
