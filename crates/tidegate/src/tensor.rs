use crate::{Element, Error};

/// An owned array, contiguous and row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<E> {
    shape: Vec<usize>,
    data: Vec<E>,
}

impl<E: Element> Tensor<E> {
    /// A tensor of `shape` that owns `data`.
    ///
    /// # Errors
    /// [`Error::Length`] if `data` does not fill `shape` exactly.
    pub fn new(shape: &[usize], data: Vec<E>) -> Result<Self, Error> {
        if element_count(shape) != Some(data.len()) {
            return Err(Error::Length { shape: shape.to_vec(), got: data.len() });
        }
        Ok(Self { shape: shape.to_vec(), data })
    }

    /// A tensor of `shape` filled with `value`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn full(shape: &[usize], value: E) -> Result<Self, Error> {
        let count = element_count(shape).unwrap_or(usize::MAX);
        let bytes = size_of::<E>().saturating_mul(count);
        let failed = || Error::OutOfMemory { bytes };
        let data = if value == E::ZERO {
            bytemuck::allocation::try_zeroed_vec(count).map_err(|()| failed())?
        } else {
            let mut data = Vec::new();
            data.try_reserve_exact(count).map_err(|_| failed())?;
            data.resize(count, value);
            data
        };
        Ok(Self { shape: shape.to_vec(), data })
    }

    /// A copy.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn copy(&self) -> Result<Self, Error> {
        let mut copy = Self::full(&self.shape, E::ZERO)?;
        copy.data.copy_from_slice(&self.data);
        Ok(copy)
    }

    /// Size of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    pub fn data(&self) -> &[E] {
        &self.data
    }

    /// The elements, row-major, for writing.
    pub fn data_mut(&mut self) -> &mut [E] {
        &mut self.data
    }

    /// The elements, row-major, without the shape.
    pub fn into_data(self) -> Vec<E> {
        self.data
    }

    /// The same elements under another shape of as many elements.
    pub(crate) fn reshaped(mut self, shape: &[usize]) -> Self {
        debug_assert_eq!(element_count(shape), Some(self.data.len()));
        self.shape = shape.to_vec();
        self
    }
}

/// The number of elements of `shape`, or `None` where it does not fit a `usize`.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n))
}

#[cfg(feature = "ndarray")]
impl<E: Element> From<Tensor<E>> for ndarray::ArrayD<E> {
    fn from(tensor: Tensor<E>) -> Self {
        ndarray::ArrayD::from_shape_vec(tensor.shape, tensor.data)
            .expect("a tensor's data fills its shape")
    }
}

#[cfg(feature = "ndarray")]
impl<E: Element> Tensor<E> {
    /// Borrows the tensor as an `ndarray` view.
    #[allow(clippy::missing_panics_doc, reason = "a tensor's data always fills its shape")]
    pub fn to_ndarray(&self) -> ndarray::ArrayViewD<'_, E> {
        ndarray::ArrayViewD::from_shape(self.shape.clone(), &self.data)
            .expect("a tensor's data fills its shape")
    }
}
