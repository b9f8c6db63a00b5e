//! Memory of calls, used again by later ones: a training step needs as much as the one before it.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate::{Element, Saved, Workspace};

/// What calls of a layer have left.
#[derive(Debug)]
pub(crate) struct Pool<E>(Mutex<Vec<Memory<E>>>);

/// What one call works in.
#[derive(Debug, Default)]
pub(crate) struct Memory<E> {
    pub(crate) workspace: Workspace<E>,
    pub(crate) saved: Saved<E>,
}

/// Memory on loan; it goes back to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Loan<E: Element> {
    memory: Mutex<Memory<E>>,
    pool: Arc<Pool<E>>,
}

impl<E: Element> Pool<E> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Vec::new())))
    }

    /// Memory that nobody else uses.
    pub(crate) fn lend(self: &Arc<Self>) -> Loan<E> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Loan { memory: Mutex::new(memory.unwrap_or_default()), pool: Arc::clone(self) }
    }
}

impl<E: Element> Loan<E> {
    /// Calls `f` with the memory.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Memory<E>) -> T) -> T {
        f(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<E: Element> Drop for Loan<E> {
    fn drop(&mut self) {
        let memory = self.memory.get_mut().unwrap_or_else(PoisonError::into_inner);
        let memory = core::mem::take(memory);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}
