//! What a forward call in training keeps, as a Python object, and the memory of calls.
#![allow(unsafe_code, reason = "tensors come as addresses")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use tidegate::{Element, Workspace};

use crate::array::Block;
use crate::layer::value_error;
use crate::torch::Torch;

/// What calls of a layer have left, for later ones: a training step needs as much as the one before it.
#[derive(Debug, Default)]
pub(crate) struct Pool<E> {
    workspaces: Shelf<Workspace<E>>,
    saved: Shelf<tidegate::Saved<E>>,
}

/// Memory of one kind.
#[derive(Debug, Default)]
struct Shelf<T>(Mutex<Vec<T>>);

/// As much memory of a kind is kept at most.
const KEPT: usize = 2;

impl<T: Default> Shelf<T> {
    fn lend(&self) -> T {
        lock(&self.0).pop().unwrap_or_default()
    }

    fn take_back(&self, memory: T) {
        let mut kept = lock(&self.0);
        if kept.len() < KEPT {
            kept.push(memory);
        }
    }
}

impl<E: Element> Pool<E> {
    /// Calls `f` with a workspace that nobody else uses.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Workspace<E>) -> T) -> T {
        let mut workspace = self.workspaces.lend();
        let done = f(&mut workspace);
        self.workspaces.take_back(workspace);
        done
    }
}

/// Locks `mutex`, also after a panic: what it holds is always whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one forward call keeps for the way back.
#[pyclass(frozen, module = "tidegate._core")]
pub(crate) struct Saved(pub(crate) Kept);

/// By the type of its numbers.
pub(crate) enum Kept {
    F32(Loan<f32>),
    F64(Loan<f64>),
}

/// What a call has kept, in memory on loan; none once that was given back.
pub(crate) struct Loan<E: Element> {
    saved: Mutex<Option<tidegate::Saved<E>>>,
    pool: Arc<Pool<E>>,
}

impl<E: Element> Loan<E> {
    /// Memory for what a call keeps.
    pub(crate) fn of(pool: &Arc<Pool<E>>) -> Self {
        Self { saved: Mutex::new(Some(pool.saved.lend())), pool: Arc::clone(pool) }
    }

    /// Calls `f` with the memory.
    pub(crate) fn with<T>(
        &self,
        f: impl FnOnce(&mut tidegate::Saved<E>) -> PyResult<T>,
    ) -> PyResult<T> {
        match lock(&self.saved).as_mut() {
            Some(saved) => f(saved),
            None => Err(PyRuntimeError::new_err("what forward has saved was given back already")),
        }
    }

    fn give_back(&self) {
        if let Some(saved) = lock(&self.saved).take() {
            self.pool.saved.take_back(saved);
        }
    }
}

impl<E: Element> Drop for Loan<E> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The cell states of every step of `layer`, into a contiguous `[T, B, D*H]`.
fn cell_states<E: Element>(loan: &Loan<E>, layer: usize, into: Block) -> PyResult<()> {
    loan.with(|saved| {
        let cells = saved.cell_states(layer).map_err(value_error)?;
        // SAFETY: the caller's contiguous array, which nobody else uses during the call.
        let into = unsafe { into.write::<E>() };
        if into.len() != cells.data().len() {
            return Err(PyValueError::new_err("the cell states have another size"));
        }
        into.copy_from_slice(cells.data());
        Ok(())
    })
}

#[pymethods]
impl Saved {
    /// The cell states (of an LSTM) of every step of `layer`, into a contiguous tensor `[T, B, D*H]`.
    fn cell_states(&self, layer: usize, into: &Bound<'_, PyAny>) -> PyResult<()> {
        let double = matches!(self.0, Kept::F64(_));
        let into = Torch::get(into.py())?.read(into)?.filter(|into| into.double == double);
        let into = into.filter(|into| into.array.is_contiguous());
        let into = into.ok_or_else(|| PyTypeError::new_err("no place for cell states"))?.block();
        match &self.0 {
            Kept::F32(loan) => cell_states(loan, layer, into),
            Kept::F64(loan) => cell_states(loan, layer, into),
        }
    }

    /// Gives the memory back before the object dies.
    fn release(&self) {
        match &self.0 {
            Kept::F32(loan) => loan.give_back(),
            Kept::F64(loan) => loan.give_back(),
        }
    }
}
