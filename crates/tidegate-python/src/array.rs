//! Arrays that Python owns.
#![allow(unsafe_code, reason = "memory that Python owns comes as an address")]

use core::ptr::NonNull;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tidegate::{Element, MAX_DIMS, View};

/// Address, sizes, and strides in elements.
#[derive(FromPyObject)]
pub(crate) struct Array(usize, Vec<usize>, Vec<isize>);

impl Array {
    /// The array, to be read.
    ///
    /// # Safety
    /// Its memory must be that of such an array of `E`, and nobody may write to it during `'a`.
    pub(crate) unsafe fn view<'a, E: Element>(&self) -> PyResult<View<'a, E>> {
        let Self(address, shape, strides) = self;
        if shape.len() > MAX_DIMS || strides.len() != shape.len() {
            return Err(PyValueError::new_err(format!("no array has sizes {shape:?}")));
        }
        if *address == 0 && !shape.contains(&0) {
            return Err(PyValueError::new_err("the array has no memory"));
        }
        // SAFETY: the caller's.
        Ok(unsafe { View::from_raw_parts(*address as *const E, shape, strides) })
    }
}

/// Address and number of elements of a contiguous array.
#[derive(FromPyObject, Copy, Clone)]
pub(crate) struct Block(usize, usize);

impl Block {
    pub(crate) fn new(address: usize, len: usize) -> Self {
        Self(address, len)
    }

    fn start<E>(self) -> *mut E {
        // Arrays without elements may have no address.
        if self.1 == 0 { NonNull::dangling().as_ptr() } else { self.0 as *mut E }
    }

    /// The elements, to be read.
    ///
    /// # Safety
    /// The memory must be that of as many `E`, and nobody may write to it during `'a`.
    pub(crate) unsafe fn read<'a, E>(self) -> &'a [E] {
        // SAFETY: the caller's.
        unsafe { core::slice::from_raw_parts(self.start(), self.1) }
    }

    /// The elements, to be written.
    ///
    /// # Safety
    /// The memory must be that of as many `E`, and nobody else may use it during `'a`.
    pub(crate) unsafe fn write<'a, E>(self) -> &'a mut [E] {
        // SAFETY: the caller's.
        unsafe { core::slice::from_raw_parts_mut(self.start(), self.1) }
    }
}
