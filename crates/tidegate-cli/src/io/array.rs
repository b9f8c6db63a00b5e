//! A dense array, and how files spell the two element types that layers compute in.

use std::fmt::Debug;
use std::str::FromStr;

use tidegate::{Element, RnnBase};

/// An element type of the computation, and how files spell it.
pub(crate) trait Scalar: Element + Debug + FromStr {
    /// NumPy's name.
    const NUMPY: &'static str;
    /// The type string of a little-endian `.npy` header.
    const DESCR: &'static str;
    /// Appends the little-endian bytes.
    fn append_bytes(self, bytes: &mut Vec<u8>);
    /// The layer with its weights kept as bf16; `None` where that is not to be had.
    fn with_bf16_weights(layer: &RnnBase<Self>) -> Option<RnnBase<Self>>;
}

impl Scalar for f32 {
    const NUMPY: &'static str = "float32";
    const DESCR: &'static str = "<f4";
    fn append_bytes(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }
    fn with_bf16_weights(layer: &RnnBase<Self>) -> Option<RnnBase<Self>> {
        Some(layer.with_bf16_weights())
    }
}

impl Scalar for f64 {
    const NUMPY: &'static str = "float64";
    const DESCR: &'static str = "<f8";
    fn append_bytes(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }
    fn with_bf16_weights(_: &RnnBase<Self>) -> Option<RnnBase<Self>> {
        None
    }
}

/// A dense array, row-major: `data.len()` is the product of `shape`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array<E> {
    /// The length of each axis, outermost first.
    pub(crate) shape: Vec<usize>,
    /// The elements, the last axis running fastest.
    pub(crate) data: Vec<E>,
}

impl<E> Array<E> {
    /// Values that lie together on the outermost axis; 1 for an array without axes.
    pub(crate) fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}
