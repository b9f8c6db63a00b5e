//! Streams of layers from files, a step or a chunk at a time.
#![allow(unsafe_code, reason = "arrays come as addresses")]

use std::sync::Mutex;

use pyo3::prelude::*;
use tidegate::{Element, State, View};

use crate::array::{Array, Block};
use crate::layer::{Core, Layer, value_error};
use crate::saved::lock;

/// A running state of a layer.
#[pyclass(frozen, module = "tidegate._core")]
pub(crate) struct Stream(Running);

/// By the type of its numbers.
enum Running {
    F32(Mutex<tidegate::Stream<f32>>),
    F64(Mutex<tidegate::Stream<f64>>),
}

/// Calls `$body` with the stream of either type.
macro_rules! with_stream {
    ($self:ident, $stream:ident => $body:expr) => {
        match &$self.0 {
            Running::F32(stream) => {
                let $stream = &mut *lock(stream);
                $body
            }
            Running::F64(stream) => {
                let $stream = &mut *lock(stream);
                $body
            }
        }
    };
}

#[pymethods]
impl Stream {
    #[new]
    fn new(layer: &Layer, batch: usize) -> PyResult<Self> {
        Ok(Self(match &layer.0 {
            Core::F32(packed) => {
                Running::F32(Mutex::new(packed.layer()?.stream(batch).map_err(value_error)?))
            }
            Core::F64(packed) => {
                Running::F64(Mutex::new(packed.layer()?.stream(batch).map_err(value_error)?))
            }
        }))
    }

    /// Runs the steps of `x: [T, B, I]` into `output: [T, B, P]`, both contiguous.
    fn push(&self, py: Python<'_>, x: Block, output: Block) -> PyResult<()> {
        py.detach(|| with_stream!(self, stream => push(stream, x, output)))
    }

    /// Copies the state into `h: [L, B, P]` and `c: [L, B, H]`.
    fn read_state(&self, h: Block, c: Option<Block>) {
        with_stream!(self, stream => read_state(stream, h, c));
    }

    /// Goes on from another state.
    fn set_state(&self, h: Array, c: Option<Array>) -> PyResult<()> {
        with_stream!(self, stream => set_state(stream, &h, c.as_ref()))
    }

    /// Begins anew from zeros.
    fn reset(&self) {
        with_stream!(self, stream => stream.reset());
    }
}

fn push<E: Element>(stream: &mut tidegate::Stream<E>, x: Block, output: Block) -> PyResult<()> {
    // SAFETY: the caller's contiguous arrays, which nobody else uses until the call returns.
    let (x, output) = unsafe { (x.read::<E>(), output.write::<E>()) };
    stream.push(x, output).map_err(value_error)
}

fn read_state<E: Element>(stream: &mut tidegate::Stream<E>, h: Block, c: Option<Block>) {
    let state = stream.state();
    for (tensor, to) in [(Some(state.0), Some(h)), (state.1, c)] {
        if let (Some(tensor), Some(to)) = (tensor, to) {
            // SAFETY: the caller's contiguous arrays, which nobody else uses.
            unsafe { to.write::<E>() }.copy_from_slice(tensor.data());
        }
    }
}

fn set_state<E: Element>(
    stream: &mut tidegate::Stream<E>,
    h: &Array,
    c: Option<&Array>,
) -> PyResult<()> {
    // SAFETY: the caller keeps the arrays alive.
    let (h, c): (View<'_, E>, _) = unsafe { (h.view(), c.map(|c| c.view())) };
    stream.set_state(State { h, c }).map_err(value_error)
}
