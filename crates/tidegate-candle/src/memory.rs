//! Memory of calls, used again by later ones: a training step needs as much as the one before it.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate::{Element, Saved, Workspace};

/// What calls of a layer have left.
#[derive(Debug, Default)]
pub(crate) struct Pool<E> {
    workspaces: Shelf<Workspace<E>>,
    saved: Shelf<Saved<E>>,
}

/// Memory of one kind.
#[derive(Debug, Default)]
struct Shelf<T>(Mutex<Vec<T>>);

/// As much memory of a kind is kept at most.
const KEPT: usize = 2;

/// Memory on loan for what a call keeps; it goes back to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Loan<E: Element> {
    saved: Mutex<Saved<E>>,
    pool: Arc<Pool<E>>,
}

impl<T: Default> Shelf<T> {
    fn lend(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn take_back(&self, memory: T) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(memory);
        }
    }
}

impl<E: Element> Pool<E> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Memory that nobody else uses.
    pub(crate) fn lend(self: &Arc<Self>) -> Loan<E> {
        Loan { saved: Mutex::new(self.saved.lend()), pool: Arc::clone(self) }
    }
}

impl<E: Element> Loan<E> {
    /// Calls `f` with the memory, and a workspace that nobody else uses.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Workspace<E>, &mut Saved<E>) -> T) -> T {
        let mut workspace = self.pool.workspaces.lend();
        let saved = &mut self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let done = f(&mut workspace, saved);
        self.pool.workspaces.take_back(workspace);
        done
    }
}

impl<E: Element> Drop for Loan<E> {
    fn drop(&mut self) {
        let saved = self.saved.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.pool.saved.take_back(core::mem::take(saved));
    }
}
