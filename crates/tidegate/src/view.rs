//! Borrowed arrays with strides: what every front end hands to the layers without copying.
#![allow(unsafe_code, reason = "a strided view of someone else's array is a pointer")]

use core::marker::PhantomData;

use crate::tensor::element_count;
use crate::{Element, Error, Tensor};

/// The most dimensions a [`View`] holds; layers take at most three.
pub const MAX_DIMS: usize = 8;

/// A borrowed array of up to [`MAX_DIMS`] dimensions with any strides.
///
/// Made from `&Tensor`, from a slice and a shape, or (feature `ndarray`) from any `ndarray`
/// array or view, transposed, sliced or reversed.
#[derive(Copy, Clone, Debug)]
pub struct View<'a, E> {
    /// The element at index 0 in every dimension.
    // INVARIANT: for every index below `shape`, `origin + sum(index * strides)` is an element
    // that is readable for `'a`.
    origin: *const E,
    shape: [usize; MAX_DIMS],
    strides: [isize; MAX_DIMS],
    ndim: usize,
    lifetime: PhantomData<&'a E>,
}

// SAFETY: a view only reads elements that are borrowed shared for `'a`, as `&[E]` does.
unsafe impl<E: Sync> Send for View<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for View<'_, E> {}

impl<'a, E: Element> View<'a, E> {
    /// A contiguous, row-major view of `data`.
    ///
    /// # Errors
    /// [`Error::Length`] if `data` does not fill `shape`; [`Error::Dimensions`] for more than
    /// [`MAX_DIMS`] dimensions.
    pub fn new(data: &'a [E], shape: &[usize]) -> Result<Self, Error> {
        if element_count(shape) != Some(data.len()) {
            return Err(Error::Length { shape: shape.to_vec(), got: data.len() });
        }
        if shape.len() > MAX_DIMS {
            return Err(Error::Dimensions {
                tensor: "array",
                expected: "at most 8D",
                got: shape.len(),
            });
        }
        let mut strides = [1isize; MAX_DIMS];
        for dim in (0..shape.len().saturating_sub(1)).rev() {
            // Of an array without elements the sizes may multiply to more than there is memory.
            strides[dim] = strides[dim + 1].wrapping_mul(shape[dim + 1] as isize);
        }
        // SAFETY: the shape is filled by `data` in row-major order.
        Ok(unsafe { Self::from_raw_parts(data.as_ptr(), shape, &strides[..shape.len()]) })
    }

    /// A view of elements anywhere in memory; strides count elements and may be negative.
    ///
    /// # Panics
    /// If there are more than [`MAX_DIMS`] dimensions, or not as many strides as dimensions.
    ///
    /// # Safety
    /// Every element that `shape` and `strides` reach from `origin` must be readable, and not
    /// written, for `'a`.
    pub unsafe fn from_raw_parts(origin: *const E, shape: &[usize], strides: &[isize]) -> Self {
        assert!(shape.len() <= MAX_DIMS && shape.len() == strides.len());
        let mut view = Self {
            origin,
            shape: [1; MAX_DIMS],
            strides: [0; MAX_DIMS],
            ndim: shape.len(),
            lifetime: PhantomData,
        };
        view.shape[..shape.len()].copy_from_slice(shape);
        view.strides[..shape.len()].copy_from_slice(strides);
        view
    }

    /// Address of the first element, sizes and strides.
    pub(crate) fn parts(&self) -> (*const E, &[usize], &[isize]) {
        (self.origin, &self.shape[..self.ndim], &self.strides[..self.ndim])
    }

    /// Size of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.ndim]
    }

    /// Number of dimensions.
    pub fn ndim(&self) -> usize {
        self.ndim
    }

    /// Whether some dimension has size zero.
    pub fn is_empty(&self) -> bool {
        self.shape().contains(&0)
    }

    /// The view with dimensions `a` and `b` exchanged.
    pub(crate) fn swapped(mut self, a: usize, b: usize) -> Self {
        self.shape.swap(a, b);
        self.strides.swap(a, b);
        self
    }

    /// The view with a new dimension of size 1 before dimension `dim`.
    pub(crate) fn unsqueezed(mut self, dim: usize) -> Self {
        assert!(dim <= self.ndim && self.ndim < MAX_DIMS);
        self.shape[dim..=self.ndim].rotate_right(1);
        self.strides[dim..=self.ndim].rotate_right(1);
        (self.shape[dim], self.strides[dim]) = (1, 0);
        self.ndim += 1;
        self
    }

    /// The view at `index` of the first dimension, with one dimension less.
    pub(crate) fn at(mut self, index: usize) -> Self {
        assert!(self.ndim > 0 && index < self.shape[0]);
        // `wrapping_offset`: in an empty view the origin may not point at an element.
        self.origin = self.origin.wrapping_offset(index as isize * self.strides[0]);
        self.shape[..self.ndim].rotate_left(1);
        self.strides[..self.ndim].rotate_left(1);
        self.ndim -= 1;
        (self.shape[self.ndim], self.strides[self.ndim]) = (1, 0);
        self
    }

    /// Copies the elements, row-major, into `out`, which they must fill.
    pub(crate) fn copy_into(self, out: &mut [E]) {
        assert_eq!(element_count(self.shape()), Some(out.len()));
        if out.is_empty() {
            return;
        }
        match self.ndim {
            0 | 1 => self.copy_line(out),
            _ => {
                let part = out.len() / self.shape[0];
                for (index, out) in out.chunks_exact_mut(part).enumerate() {
                    self.at(index).copy_into(out);
                }
            }
        }
    }

    /// Copies a view of at most one dimension.
    fn copy_line(self, out: &mut [E]) {
        if self.strides[0] == 1 {
            // SAFETY: the invariant gives `shape[0] == out.len()` readable elements in a row.
            let line = unsafe { core::slice::from_raw_parts(self.origin, out.len()) };
            out.copy_from_slice(line);
            return;
        }
        for (index, out) in out.iter_mut().enumerate() {
            // SAFETY: `index` is below `shape[0]`, so the invariant covers it.
            *out = unsafe { *self.origin.offset(index as isize * self.strides[0]) };
        }
    }

    /// Copies the elements, row-major, into a new tensor.
    #[cfg(test)]
    pub(crate) fn to_tensor(self) -> Tensor<E> {
        let mut tensor = Tensor::full(self.shape(), E::ZERO).unwrap();
        self.copy_into(tensor.data_mut());
        tensor
    }
}

impl<'a, E: Element> From<&'a Tensor<E>> for View<'a, E> {
    fn from(tensor: &'a Tensor<E>) -> Self {
        View::new(tensor.data(), tensor.shape()).expect("a tensor's data fills its shape")
    }
}

#[cfg(feature = "ndarray")]
impl<'a, E, S, D> From<&'a ndarray::ArrayBase<S, D>> for View<'a, E>
where
    E: Element,
    S: ndarray::Data<Elem = E>,
    D: ndarray::Dimension,
{
    fn from(array: &'a ndarray::ArrayBase<S, D>) -> Self {
        View::from(array.view())
    }
}

#[cfg(feature = "ndarray")]
impl<'a, E: Element, D: ndarray::Dimension> From<ndarray::ArrayView<'a, E, D>> for View<'a, E> {
    fn from(array: ndarray::ArrayView<'a, E, D>) -> Self {
        if array.ndim() > MAX_DIMS {
            // More dimensions than any layer takes: kept as an empty view, which every layer
            // refuses for its number of dimensions.
            return View::new(&[], &[0; MAX_DIMS]).expect("no elements fill an empty shape");
        }
        // SAFETY: an `ndarray` view guarantees its elements to be readable for `'a`.
        unsafe { View::from_raw_parts(array.as_ptr(), array.shape(), array.strides()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_followed() {
        let data: Vec<f32> = (0..24).map(|k| k as f32).collect();
        let view = View::new(&data, &[2, 3, 4]).unwrap();
        assert_eq!(view.to_tensor().data(), data);
        let swapped = view.swapped(0, 2).to_tensor();
        assert_eq!(swapped.shape(), [4, 3, 2]);
        assert_eq!(swapped.data()[..4], [0.0, 12.0, 4.0, 16.0]);
        let row = view.at(1).at(2);
        assert_eq!(row.to_tensor().data(), [20.0, 21.0, 22.0, 23.0]);
        assert_eq!(row.unsqueezed(1).shape(), [4, 1]);
        assert_eq!(row.unsqueezed(0).unsqueezed(1).to_tensor().data(), row.to_tensor().data());
    }

    #[test]
    fn wrong_lengths_are_errors() {
        assert!(View::new(&[0.0f32; 5], &[2, 3]).is_err());
        assert!(View::<f32>::new(&[], &[usize::MAX, 2]).is_err());
        assert!(View::<f32>::new(&[], &[usize::MAX, 0, 2]).is_ok());
        assert!(View::new(&[0.0f32], &[1; 9]).is_err());
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn ndarray_views_keep_their_strides() {
        use ndarray::{Array3, s};
        let array = Array3::from_shape_fn((4, 3, 5), |(t, b, i)| (100 * t + 10 * b + i) as f64);
        let sliced = array.slice(s![..;-2, 1.., ..;2]);
        let view = View::from(sliced);
        assert_eq!(view.shape(), [2, 2, 3]);
        let want: Vec<f64> = sliced.iter().copied().collect();
        assert_eq!(view.to_tensor().data(), want);
    }
}
