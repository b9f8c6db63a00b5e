//! A stack of layers, called with arrays that Python owns.
#![allow(unsafe_code, reason = "arrays come as addresses")]

use core::mem::size_of_val;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use tidegate::{
    Config, Element, GradientsMut, Mode, Options, OutputMut, Packing, Resets, RnnBase, State,
    Upstream, set_num_threads,
};

use crate::array::{Array, Block};
use crate::saved::{Kept, Loan, Pool, Saved, lock};

/// A stack of layers in float32 or float64.
#[pyclass(frozen, module = "tidegate._core")]
pub(crate) struct Layer(pub(crate) Core);

/// By the type of its numbers.
pub(crate) enum Core {
    F32(Packed<f32>),
    F64(Packed<f64>),
}

/// A layer with the memory of its calls.
pub(crate) struct Packed<E: Element> {
    layer: Mutex<RnnBase<E>>,
    pool: Arc<Pool<E>>,
}

/// An error of the library as Python's.
pub(crate) fn value_error(error: tidegate::Error) -> PyErr {
    match error {
        tidegate::Error::OutOfMemory { .. } => PyMemoryError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// The mode of PyTorch's name `LSTM`, `GRU`, `RNN_TANH` or `RNN_RELU`.
fn mode(name: &str) -> PyResult<Mode> {
    match name {
        "LSTM" => Ok(Mode::Lstm),
        "GRU" => Ok(Mode::Gru),
        "RNN_TANH" => Ok(Mode::RnnTanh),
        "RNN_RELU" => Ok(Mode::RnnRelu),
        _ => Err(PyValueError::new_err(format!("Unrecognized RNN mode: {name}"))),
    }
}

/// What a call takes beside the input and a state.
struct Extra {
    lengths: Option<Vec<usize>>,
    packing: Option<Packing>,
    resets: Option<Vec<bool>>,
}

/// Where results go: output, `h_n`, and `c_n` of an LSTM.
type Results = (Block, Block, Option<Block>);

#[pymethods]
impl Layer {
    #[new]
    #[allow(clippy::too_many_arguments, reason = "PyTorch's")]
    fn new(
        mode_name: &str,
        input_size: usize,
        hidden_size: usize,
        num_layers: usize,
        bias: bool,
        bidirectional: bool,
        proj_size: usize,
        double: bool,
    ) -> PyResult<Self> {
        let config = Config::new(mode(mode_name)?, input_size, hidden_size);
        let config = Config { num_layers, bias, bidirectional, proj_size, ..config };
        Ok(Self(match double {
            false => Core::F32(Packed::new(RnnBase::new(config).map_err(value_error)?)),
            true => Core::F64(Packed::new(RnnBase::new(config).map_err(value_error)?)),
        }))
    }

    /// Runs the layer over `x: [T, B, I]`, or `[rows, I]` with `batch_sizes`, with the parameters at the addresses
    /// `parameters`, or its own if there are none. Returns what `backward` needs if `train`.
    #[allow(clippy::too_many_arguments, reason = "one call of a private function, for speed")]
    fn forward(
        &self,
        py: Python<'_>,
        parameters: Vec<usize>,
        x: Array,
        state: Option<(Array, Option<Array>)>,
        results: Results,
        lengths: Option<Vec<usize>>,
        batch_sizes: Option<Vec<usize>>,
        resets: Option<Block>,
        threads: usize,
        train: bool,
    ) -> PyResult<Option<Saved>> {
        let packing = batch_sizes.map(|sizes| Packing::new(sizes, None)).transpose();
        let packing = packing.map_err(value_error)?;
        // SAFETY: the caller's array of bytes; any byte but zero is true.
        let resets = resets.map(|mask| unsafe { mask.read::<u8>() });
        let resets = resets.map(|mask| mask.iter().map(|&cut| cut != 0).collect());
        let extra = Extra { lengths, packing, resets };
        set_num_threads(threads);
        py.detach(|| {
            Ok(match &self.0 {
                Core::F32(packed) => packed
                    .forward(&parameters, &x, state.as_ref(), results, &extra, train)?
                    .map(|loan| Saved(Kept::F32(loan))),
                Core::F64(packed) => packed
                    .forward(&parameters, &x, state.as_ref(), results, &extra, train)?
                    .map(|loan| Saved(Kept::F64(loan))),
            })
        })
    }

    /// Adds nothing and overwrites the gradients of `x`, `h_0`, `c_0` and the parameters that have a place.
    #[allow(clippy::too_many_arguments, reason = "one call of a private function, for speed")]
    fn backward(
        &self,
        py: Python<'_>,
        parameters: Vec<usize>,
        saved: &Saved,
        x: Array,
        upstream: [Option<Array>; 3],
        into: [Option<Block>; 3],
        into_parameters: Vec<Option<Block>>,
        threads: usize,
    ) -> PyResult<()> {
        set_num_threads(threads);
        py.detach(|| match (&self.0, &saved.0) {
            (Core::F32(packed), Kept::F32(loan)) => {
                packed.backward(&parameters, loan, &x, &upstream, into, &into_parameters)
            }
            (Core::F64(packed), Kept::F64(loan)) => {
                packed.backward(&parameters, loan, &x, &upstream, into, &into_parameters)
            }
            _ => Err(PyTypeError::new_err("forward and backward of different types")),
        })
    }

    /// The cell states (of an LSTM) of every step of `layer`, into `[T, B, D*H]`.
    fn cell_states(&self, saved: &Saved, layer: usize, into: Block) -> PyResult<()> {
        match &saved.0 {
            Kept::F32(loan) => cell_states(loan, layer, into),
            Kept::F64(loan) => cell_states(loan, layer, into),
        }
    }

    /// PyTorch's way to write the constructor's call.
    fn __repr__(&self) -> String {
        match &self.0 {
            Core::F32(packed) => packed.config().to_string(),
            Core::F64(packed) => packed.config().to_string(),
        }
    }
}

fn cell_states<E: Element>(loan: &Loan<E>, layer: usize, into: Block) -> PyResult<()> {
    loan.with(|memory| {
        let cells = memory.saved.cell_states(layer).map_err(value_error)?;
        // SAFETY: the caller's contiguous array, which nobody else uses during the call.
        let into = unsafe { into.write::<E>() };
        if into.len() != cells.data().len() {
            return Err(PyValueError::new_err("the cell states have another size"));
        }
        into.copy_from_slice(cells.data());
        Ok(())
    })
}

impl<E: Element> Packed<E> {
    pub(crate) fn new(layer: RnnBase<E>) -> Self {
        Self { layer: Mutex::new(layer), pool: Arc::default() }
    }

    pub(crate) fn config(&self) -> Config {
        *lock(&self.layer).config()
    }

    /// The layer with its own parameters.
    pub(crate) fn layer(&self) -> RnnBase<E> {
        lock(&self.layer).clone()
    }

    /// The layer with the parameters at `addresses`: compared with those it has, so that no way to change them is
    /// missed, and packed anew only if they differ.
    fn current(&self, addresses: &[usize]) -> PyResult<RnnBase<E>> {
        let mut layer = lock(&self.layer);
        if addresses.is_empty() {
            return Ok(layer.clone());
        }
        if addresses.contains(&0) || addresses.len() != layer.parameters().len() {
            return Err(PyValueError::new_err(
                "the layer has other parameters, or they have no memory",
            ));
        }
        let blocks = addresses.iter().zip(layer.parameters());
        let blocks: Vec<Block> =
            blocks.map(|(&at, own)| Block::new(at, own.data().len())).collect();
        let same = layer.parameters().iter().zip(&blocks).all(|(own, block)| {
            let own = own.data();
            // SAFETY: the caller's contiguous tensors of these shapes; bytes compare NaN too.
            unsafe { bytes(own) == bytes(block.read::<E>()) }
        });
        if !same {
            layer.update_parameters(|own| {
                for (own, block) in own.iter_mut().zip(&blocks) {
                    // SAFETY: as above.
                    own.data_mut().copy_from_slice(unsafe { block.read() });
                }
            });
        }
        Ok(layer.clone())
    }

    fn forward(
        &self,
        parameters: &[usize],
        x: &Array,
        state: Option<&(Array, Option<Array>)>,
        (output, h_n, c_n): Results,
        extra: &Extra,
        train: bool,
    ) -> PyResult<Option<Loan<E>>> {
        let layer = self.current(parameters)?;
        // SAFETY: the caller keeps the tensors alive and leaves them alone until the call returns.
        let (x, state, out) = unsafe {
            let state = match state {
                Some((h, c)) => {
                    let c = c.as_ref().map(|c| c.view()).transpose()?;
                    Some(State { h: h.view()?, c })
                }
                None => None,
            };
            let c_n = c_n.map_or(&mut [][..], |c_n| c_n.write());
            (x.view()?, state, OutputMut { output: output.write(), h_n: h_n.write(), c_n })
        };
        let resets = extra.resets.as_ref().map(|before| Resets { before, state: None });
        let (lengths, packing) = (extra.lengths.as_deref(), extra.packing.as_ref());
        let options = Options { state, lengths, packing, resets, ..Options::default() };
        let mut memory = self.pool.lend();
        let done = match train {
            true => {
                let (workspace, saved) = (&mut memory.workspace, &mut memory.saved);
                layer.forward_train_into(x, options, workspace, saved, out)
            }
            false => layer.forward_into(x, options, &mut memory.workspace, out),
        };
        let loan = Loan::new(memory, &self.pool);
        done.map_err(value_error)?;
        Ok(train.then_some(loan))
    }

    fn backward(
        &self,
        parameters: &[usize],
        loan: &Loan<E>,
        x: &Array,
        upstream: &[Option<Array>; 3],
        [d_x, h_0, c_0]: [Option<Block>; 3],
        into_parameters: &[Option<Block>],
    ) -> PyResult<()> {
        let layer = self.current(parameters)?;
        // SAFETY: the caller keeps the tensors alive and leaves them alone until the call returns.
        let (x, upstream, into) = unsafe {
            let view = |array: &Option<Array>| array.as_ref().map(|array| array.view()).transpose();
            let [output, h_n, c_n] = upstream;
            let upstream = Upstream { output: view(output)?, h_n: view(h_n)?, c_n: view(c_n)? };
            let into = GradientsMut {
                input: d_x.map(|to| to.write()),
                h_0: h_0.map(|to| to.write()),
                c_0: c_0.map(|to| to.write()),
                parameters: into_parameters.iter().map(|to| to.map(|to| to.write())).collect(),
                ..GradientsMut::default()
            };
            (x.view()?, upstream, into)
        };
        loan.with(|memory| {
            let workspace = &mut memory.workspace;
            layer.backward_into(x, upstream, &memory.saved, workspace, into).map_err(value_error)
        })
    }
}

/// The bytes of `data`.
fn bytes<E: Element>(data: &[E]) -> &[u8] {
    // SAFETY: elements are numbers without padding.
    unsafe { core::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }
}
