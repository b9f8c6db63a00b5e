//! How sequences of different lengths lie one after the other without padding.

use crate::batch::Batch;
use crate::{Element, Error, Tensor};

/// How sequences of different lengths lie without padding: the first step of every sequence, longest
/// first, then the second step of those that have one, and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    batch_sizes: Vec<usize>,
    sorted_indices: Option<Vec<usize>>,
    unsorted_indices: Option<Vec<usize>>,
    /// `[T + 1]`: row at which each step begins, and the total.
    offsets: Vec<usize>,
}

impl Packing {
    /// `batch_sizes` sequences have each step and must not increase; `sorted_indices[b]` is the
    /// caller's number of the `b`-th longest sequence, or `None` if they are in order.
    ///
    /// # Errors
    /// [`Error::InconsistentPack`] if the parts contradict one another.
    pub fn new(batch_sizes: Vec<usize>, sorted_indices: Option<Vec<usize>>) -> Result<Self, Error> {
        let inconsistent = |reason| Err(Error::InconsistentPack { reason });
        let Some(&batch) = batch_sizes.first() else {
            return inconsistent("batch_sizes is empty");
        };
        if batch_sizes.contains(&0) {
            return inconsistent("a batch size is zero");
        }
        if batch_sizes.windows(2).any(|pair| pair[0] < pair[1]) {
            return inconsistent("batch_sizes increase");
        }
        let mut offsets = vec![0usize];
        for &size in &batch_sizes {
            let Some(next) = offsets[offsets.len() - 1].checked_add(size) else {
                return inconsistent("batch_sizes add up to more than memory");
            };
            offsets.push(next);
        }
        let unsorted_indices = match &sorted_indices {
            None => None,
            Some(sorted) if sorted.len() != batch => {
                return inconsistent("sorted_indices is not as long as the first batch size");
            }
            Some(sorted) => match invert_permutation(sorted) {
                None => return inconsistent("sorted_indices is not a permutation"),
                inverse => inverse,
            },
        };
        Ok(Self { batch_sizes, sorted_indices, unsorted_indices, offsets })
    }

    /// Number of rows of all steps.
    pub fn rows(&self) -> usize {
        self.offsets[self.offsets.len() - 1]
    }

    /// Number of sequences that have each step.
    pub fn batch_sizes(&self) -> &[usize] {
        &self.batch_sizes
    }

    /// The caller's number of each packed sequence, or `None` if they are in order.
    pub fn sorted_indices(&self) -> Option<&[usize]> {
        self.sorted_indices.as_deref()
    }

    /// Where each of the caller's sequences is packed, or `None` if they are in order.
    pub fn unsorted_indices(&self) -> Option<&[usize]> {
        self.unsorted_indices.as_deref()
    }

    /// The length of each of the caller's sequences.
    pub fn lengths(&self) -> Vec<usize> {
        let batch = self.batch_sizes[0];
        let length = |packed: usize| self.batch_sizes.partition_point(|&size| size > packed);
        (0..batch).map(|b| length(self.unsorted_indices.as_ref().map_or(b, |u| u[b]))).collect()
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch::Ragged { rows: self.batch_sizes[0], offsets: &self.offsets }
    }

    /// The row that holds step `t` of the caller's sequence `b`.
    pub(crate) fn row(&self, t: usize, b: usize) -> usize {
        self.offsets[t] + self.unsorted_indices.as_ref().map_or(b, |unsorted| unsorted[b])
    }
}

/// Sequences of different lengths without padding, as PyTorch's `PackedSequence`.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedSequence<E> {
    data: Tensor<E>,
    packing: Packing,
}

impl<E: Element> PackedSequence<E> {
    /// A packed sequence of existing parts: `data: [sum(batch_sizes), *]`, and the arguments of
    /// [`Packing::new`].
    ///
    /// # Errors
    /// [`Error::InconsistentPack`] if the parts contradict one another.
    pub fn new(
        data: Tensor<E>,
        batch_sizes: Vec<usize>,
        sorted_indices: Option<Vec<usize>>,
    ) -> Result<Self, Error> {
        Self::with_packing(data, Packing::new(batch_sizes, sorted_indices)?)
    }

    /// `data: [rows, *]` packed as `packing` says.
    ///
    /// # Errors
    /// [`Error::InconsistentPack`] if it says another number of rows.
    pub fn with_packing(data: Tensor<E>, packing: Packing) -> Result<Self, Error> {
        if data.shape().first() != Some(&packing.rows()) {
            let reason = "data does not have as many rows as batch_sizes add up to";
            return Err(Error::InconsistentPack { reason });
        }
        Ok(Self { data, packing })
    }

    /// The rows, `[sum(batch_sizes), *]`.
    pub fn data(&self) -> &Tensor<E> {
        &self.data
    }

    /// How they are packed.
    pub fn packing(&self) -> &Packing {
        &self.packing
    }

    /// As [`Packing::batch_sizes`].
    pub fn batch_sizes(&self) -> &[usize] {
        self.packing.batch_sizes()
    }

    /// As [`Packing::sorted_indices`].
    pub fn sorted_indices(&self) -> Option<&[usize]> {
        self.packing.sorted_indices()
    }

    /// As [`Packing::unsorted_indices`].
    pub fn unsorted_indices(&self) -> Option<&[usize]> {
        self.packing.unsorted_indices()
    }

    /// As [`Packing::lengths`].
    pub fn lengths(&self) -> Vec<usize> {
        self.packing.lengths()
    }
}

/// The inverse of `permutation`, or `None` if it is not one.
pub fn invert_permutation(permutation: &[usize]) -> Option<Vec<usize>> {
    let mut inverse = vec![usize::MAX; permutation.len()];
    for (k, &p) in permutation.iter().enumerate() {
        match inverse.get_mut(p) {
            Some(entry) if *entry == usize::MAX => *entry = k,
            _ => return None,
        }
    }
    Some(inverse)
}
