//! Arrays that Python owns.
#![allow(unsafe_code, reason = "memory that Python owns comes as an address")]

use core::ptr::NonNull;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tidegate::{Element, View};

/// The most dimensions that an array of a call has.
pub(crate) const MAX_DIMS: usize = 3;

/// Where an array lies: address, sizes, and strides in elements.
#[derive(Copy, Clone, PartialEq)]
pub(crate) struct Array {
    address: usize,
    ndim: usize,
    shape: [usize; MAX_DIMS],
    strides: [isize; MAX_DIMS],
}

impl Array {
    /// None if there are more than [`MAX_DIMS`] dimensions, not as many strides, or elements without memory.
    pub(crate) fn new(address: usize, shape: &[usize], strides: &[isize]) -> Option<Self> {
        let ndim = shape.len();
        let memory = address != 0 || shape.contains(&0);
        if ndim > MAX_DIMS || strides.len() != ndim || !memory {
            return None;
        }
        let mut array = Self { address, ndim, shape: [1; MAX_DIMS], strides: [0; MAX_DIMS] };
        array.shape[..ndim].copy_from_slice(shape);
        array.strides[..ndim].copy_from_slice(strides);
        Some(array)
    }

    pub(crate) fn address(&self) -> usize {
        self.address
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape[..self.ndim]
    }

    fn strides(&self) -> &[isize] {
        &self.strides[..self.ndim]
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether the elements lie one after the other, the last index fastest.
    pub(crate) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.len() == 0
            || self.shape().iter().zip(self.strides()).rev().all(|(&size, &stride)| {
                let fits = size == 1 || stride == expected;
                expected *= size as isize;
                fits
            })
    }

    /// Whether it is contiguous with just the strides that a new array has, also where a size of one leaves them open.
    pub(crate) fn is_row_major(&self) -> bool {
        let mut expected = 1;
        self.shape().iter().zip(self.strides()).rev().all(|(&size, &stride)| {
            let same = stride == expected;
            expected *= size as isize;
            same
        })
    }

    /// The array with the first two dimensions exchanged, of which there must be as many.
    pub(crate) fn transposed(mut self) -> Self {
        self.shape.swap(0, 1);
        self.strides.swap(0, 1);
        self
    }

    /// The array with dimensions of one element before the others, three in all.
    pub(crate) fn in_3d(mut self) -> Self {
        while self.ndim < 3 {
            self.shape.rotate_right(1);
            self.strides.rotate_right(1);
            (self.shape[0], self.strides[0]) = (1, 0);
            self.ndim += 1;
        }
        self
    }

    /// All elements of a contiguous array.
    pub(crate) fn block(&self) -> Block {
        debug_assert!(self.is_contiguous());
        Block(self.address, self.len())
    }

    /// The array, to be read.
    ///
    /// # Safety
    /// Its memory must be that of such an array of `E`, and nobody may write to it during `'a`.
    pub(crate) unsafe fn view<'a, E: Element>(&self) -> View<'a, E> {
        // SAFETY: the caller's.
        unsafe { View::from_raw_parts(self.address as *const E, self.shape(), self.strides()) }
    }
}

/// From the tuple `(address, sizes, strides in elements)`.
impl<'py> FromPyObject<'_, 'py> for Array {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (address, shape, strides): (usize, Vec<usize>, Vec<isize>) = object.extract()?;
        Self::new(address, &shape, &strides)
            .ok_or_else(|| PyValueError::new_err(format!("no array has sizes {shape:?} there")))
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
