//! A stack of layers, called with arrays that Python owns.
#![allow(unsafe_code, reason = "arrays come as addresses")]

use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use tidegate::{
    Element, Functional, GradientsMut, Options, OutputMut, Packing, Resets, RnnBase, State,
    Upstream, set_num_threads,
};

use crate::array::{Array, Block};
use crate::config::Config;
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
    config: tidegate::Config,
    shapes: Vec<Vec<usize>>,
    /// Packed for inference, if that was wanted yet; none while a thread packs other parameters, and so for good in a process
    /// that was forked meanwhile.
    // Locked for moments only: a process that is forked just then finds it locked forever.
    layer: Mutex<Option<RnnBase<E>>>,
    pool: Arc<Pool<E>>,
}

/// Bytes of parameters from which on a step with those that are not packed takes less time than to compare them with the
/// packed ones and to read these: when together they are more than a level-2 cache. One step of an LSTM of 128 units (0.5 MB)
/// took 0.8 of the time, of 256 0.7, of 512 0.37; of 96 twice as much (f32, Ice Lake).
const FAR_BYTES: usize = 1 << 19;

/// Most steps of a call that reads them as they are. Eight took as long as with the packed ones where there are 8 MB.
const MOST_STEPS: usize = 8;

/// Whether a call is so short that its steps had better read `bytes` of parameters as they are. From further away comparing them
/// takes the time of more steps: as long as two with 2 MB, four with 4 MB, eight with 8 MB (LSTM of 256, 384 and 512 units, f32,
/// Ice Lake).
fn is_short(steps: usize, bytes: usize) -> bool {
    (1..=MOST_STEPS).contains(&steps) && (2 * steps - 1) * FAR_BYTES <= bytes
}

/// An error of the library as Python's.
pub(crate) fn value_error(error: tidegate::Error) -> PyErr {
    match error {
        tidegate::Error::OutOfMemory { .. } => PyMemoryError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// The tensors a call reads beside the parameters: input `[T, B, I]`, or `[rows, I]` of packed sequences, and state.
pub(crate) struct Inputs {
    pub(crate) x: Array,
    pub(crate) state: Option<(Array, Option<Array>)>,
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) packing: Option<Packing>,
    pub(crate) resets: Option<Vec<bool>>,
}

/// Where results go: output, `h_n`, and `c_n` of an LSTM.
pub(crate) type Results = (Block, Block, Option<Block>);

/// What the way back reads: the input, and the gradients by output, `h_n` and `c_n`.
pub(crate) struct Upstreams {
    pub(crate) x: Array,
    pub(crate) upstream: [Option<Array>; 3],
}

/// Where gradients go: those of input, `h_0` and `c_0`, and of the parameters; none at all of these may be left out.
pub(crate) struct Into {
    pub(crate) states: [Option<Block>; 3],
    pub(crate) parameters: Vec<Option<Block>>,
}

impl Layer {
    pub(crate) fn new(config: &Config) -> PyResult<Self> {
        config.of.validate().map_err(value_error)?;
        Ok(Self(match config.double {
            false => Core::F32(Packed::of(config.of, None)),
            true => Core::F64(Packed::of(config.of, None)),
        }))
    }

    /// Runs the layer with the parameters at the addresses `parameters`, or its own if there are none. Returns what
    /// [`backward`](Self::backward) needs if `train`.
    ///
    /// The arrays must be of the type of the layer, and stay and be left alone by others until this returns.
    pub(crate) fn forward(
        &self,
        py: Python<'_>,
        parameters: &[usize],
        inputs: &Inputs,
        results: Results,
        train: bool,
    ) -> PyResult<Option<Saved>> {
        py.detach(|| {
            Ok(match &self.0 {
                Core::F32(packed) => packed
                    .forward(parameters, inputs, results, train)?
                    .map(|loan| Saved(Kept::F32(loan))),
                Core::F64(packed) => packed
                    .forward(parameters, inputs, results, train)?
                    .map(|loan| Saved(Kept::F64(loan))),
            })
        })
    }

    /// Overwrites the gradients that have a place. The arrays as in [`forward`](Self::forward).
    pub(crate) fn backward(
        &self,
        py: Python<'_>,
        parameters: &[usize],
        saved: &Saved,
        upstreams: &Upstreams,
        into: Into,
    ) -> PyResult<()> {
        py.detach(|| match (&self.0, &saved.0) {
            (Core::F32(packed), Kept::F32(loan)) => {
                packed.backward(parameters, loan, upstreams, into)
            }
            (Core::F64(packed), Kept::F64(loan)) => {
                packed.backward(parameters, loan, upstreams, into)
            }
            _ => Err(PyTypeError::new_err("forward and backward of different types")),
        })
    }

    /// A layer of its own with the parameters at these addresses, as in [`forward`](Self::forward).
    pub(crate) fn packed(&self, py: Python<'_>, parameters: &[usize]) -> PyResult<Self> {
        py.detach(|| {
            Ok(Self(match &self.0 {
                Core::F32(packed) => Core::F32(Packed::new(packed.current(parameters)?)?),
                Core::F64(packed) => Core::F64(Packed::new(packed.current(parameters)?)?),
            }))
        })
    }

    /// Whether the parameters have these shapes, in PyTorch's order.
    pub(crate) fn has_shapes<'a>(
        &self,
        shapes: impl ExactSizeIterator<Item = &'a [usize]>,
    ) -> bool {
        match &self.0 {
            Core::F32(packed) => packed.has_shapes(shapes),
            Core::F64(packed) => packed.has_shapes(shapes),
        }
    }
}

#[pymethods]
impl Layer {
    /// Runs the layer with its own parameters over `x: [T, B, I]`.
    #[pyo3(name = "forward")]
    fn forward_own(
        &self,
        py: Python<'_>,
        x: Array,
        state: Option<(Array, Option<Array>)>,
        results: Results,
        lengths: Option<Vec<usize>>,
    ) -> PyResult<()> {
        set_num_threads(0);
        let inputs = Inputs { x, state, lengths, packing: None, resets: None };
        self.forward(py, &[], &inputs, results, false).map(drop)
    }

    /// PyTorch's way to write the constructor's call.
    fn __repr__(&self) -> String {
        match &self.0 {
            Core::F32(packed) => packed.config().to_string(),
            Core::F64(packed) => packed.config().to_string(),
        }
    }
}

impl<E: Element> Packed<E> {
    pub(crate) fn new(layer: RnnBase<E>) -> PyResult<Self> {
        layer.prepack().map_err(value_error)?;
        Ok(Self::of(*layer.config(), Some(layer)))
    }

    fn of(config: tidegate::Config, layer: Option<RnnBase<E>>) -> Self {
        let shapes = config.parameters().into_iter().map(|(_, shape)| shape).collect();
        Self { config, shapes, layer: Mutex::new(layer), pool: Arc::default() }
    }

    pub(crate) fn config(&self) -> tidegate::Config {
        self.config
    }

    /// The layer with its own parameters.
    pub(crate) fn layer(&self) -> PyResult<RnnBase<E>> {
        let layer = lock(&self.layer).clone();
        layer.ok_or_else(|| PyRuntimeError::new_err("the layer is being packed"))
    }

    /// The parameters at `addresses`.
    fn blocks(&self, addresses: &[usize]) -> PyResult<Vec<Block>> {
        if addresses.contains(&0) || addresses.len() != self.shapes.len() {
            return Err(PyValueError::new_err(
                "the layer has other parameters, or they have no memory",
            ));
        }
        let blocks = addresses.iter().zip(&self.shapes);
        Ok(blocks.map(|(&at, shape)| Block::new(at, shape.iter().product())).collect())
    }

    /// Whether a call is too short for it to be worth it to compare the parameters at `addresses` with the packed ones.
    fn is_short(&self, addresses: &[usize], inputs: &Inputs) -> bool {
        let numbers: usize = self.shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        let bytes = numbers * size_of::<E>();
        let steps = inputs.x.shape().first().copied().unwrap_or(0);
        !addresses.is_empty() && inputs.packing.is_none() && is_short(steps, bytes)
    }

    /// The layer with the parameters at `addresses`: compared with those it has, so that no way to change them is
    /// missed, and packed anew only if they differ.
    fn current(&self, addresses: &[usize]) -> PyResult<RnnBase<E>> {
        if addresses.is_empty() {
            return self.layer();
        }
        let blocks = self.blocks(addresses)?;
        // SAFETY: the caller's contiguous tensors of these shapes.
        let given: Vec<&[E]> = blocks.iter().map(|block| unsafe { block.read() }).collect();
        let found = lock(&self.layer).clone();
        if let Some(layer) = found.filter(|layer| layer.has_parameters(&given)) {
            return Ok(layer);
        }
        let taken = lock(&self.layer).take();
        let mut layer = match taken {
            Some(layer) => layer,
            None => RnnBase::new(self.config).map_err(value_error)?,
        };
        layer.update_parameters(|own| {
            for (own, given) in own.iter_mut().zip(given) {
                own.data_mut().copy_from_slice(given);
            }
        });
        // Before others find it: a process that is forked while a thread packs it would wait for that thread forever.
        layer.prepack().map_err(value_error)?;
        *lock(&self.layer) = Some(layer.clone());
        Ok(layer)
    }

    fn has_shapes<'a>(&self, shapes: impl ExactSizeIterator<Item = &'a [usize]>) -> bool {
        self.shapes.len() == shapes.len()
            && self.shapes.iter().zip(shapes).all(|(own, shape)| own == shape)
    }

    fn forward(
        &self,
        parameters: &[usize],
        inputs: &Inputs,
        (output, h_n, c_n): Results,
        train: bool,
    ) -> PyResult<Option<Loan<E>>> {
        // SAFETY: the caller keeps the tensors alive and leaves them alone until the call returns.
        let (x, state, out) = unsafe {
            let state = inputs.state.as_ref();
            let state = state.map(|(h, c)| State { h: h.view(), c: c.map(|c| c.view()) });
            let c_n = c_n.map_or(&mut [][..], |c_n| c_n.write());
            let out = OutputMut { output: output.write(), h_n: h_n.write(), c_n };
            (inputs.x.view(), state, out)
        };
        let resets = inputs.resets.as_ref().map(|before| Resets { before, state: None });
        let (lengths, packing) = (inputs.lengths.as_deref(), inputs.packing.as_ref());
        let options = Options { state, lengths, packing, resets, ..Options::default() };
        self.pool.with(|workspace| {
            if !train && !self.is_short(parameters, inputs) {
                let layer = self.current(parameters)?;
                layer.forward_into(x, options, workspace, out).map_err(value_error)?;
                return Ok(None);
            }
            let blocks = self.blocks(parameters)?;
            // SAFETY: as above.
            let parameters: Vec<&[E]> = blocks.iter().map(|own| unsafe { own.read() }).collect();
            let layer = Functional::new(self.config, &parameters).map_err(value_error)?;
            if !train {
                layer.forward_into(x, options, workspace, out).map_err(value_error)?;
                return Ok(None);
            }
            let loan = Loan::of(&self.pool);
            loan.with(|saved| {
                layer.forward_train_into(x, options, workspace, saved, out).map_err(value_error)
            })?;
            Ok(Some(loan))
        })
    }

    fn backward(
        &self,
        parameters: &[usize],
        loan: &Loan<E>,
        upstreams: &Upstreams,
        Into { states: [d_x, h_0, c_0], parameters: into_parameters }: Into,
    ) -> PyResult<()> {
        let blocks = self.blocks(parameters)?;
        // SAFETY: the caller keeps the tensors alive and leaves them alone until the call returns.
        let parameters: Vec<&[E]> = blocks.iter().map(|own| unsafe { own.read() }).collect();
        let layer = Functional::new(self.config, &parameters).map_err(value_error)?;
        // SAFETY: as above.
        let (x, upstream, into) = unsafe {
            let [output, h_n, c_n] =
                upstreams.upstream.map(|array| array.map(|array| array.view()));
            let into = GradientsMut {
                input: d_x.map(|to| to.write()),
                h_0: h_0.map(|to| to.write()),
                c_0: c_0.map(|to| to.write()),
                parameters: into_parameters.iter().map(|to| to.map(|to| to.write())).collect(),
                ..GradientsMut::default()
            };
            (upstreams.x.view(), Upstream { output, h_n, c_n }, into)
        };
        self.pool.with(|workspace| {
            loan.with(|saved| {
                layer.backward_into(x, upstream, saved, workspace, into).map_err(value_error)
            })
        })
    }
}
