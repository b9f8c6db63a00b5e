//! How much memory a file may ask for.

use core::cell::Cell;

/// What a file's data may grow to when it is unpacked, expanded or decoded, in multiples of the
/// file's size.
///
/// A guess with room: weights deflate to about 0.9 of their size, and a view that repeats elements
/// is rare in a checkpoint. Bytes as `i128`, the largest type that is decoded to, come to just 16.
/// Deflate itself can grow data 1032 times, a view without bound.
pub const EXPANSION: u64 = 16;

/// What is allowed on top of [`EXPANSION`], in bytes, so that a small file of zeros still unpacks.
pub const ALLOWANCE: u64 = 16 << 20;

/// The most dimensions a tensor may have: as many as in NumPy and PyTorch.
pub const MAX_DIMS: usize = 64;

/// Bytes that the data of a file of `length` bytes may grow to.
pub(crate) fn data_limit(length: usize) -> u64 {
    (length as u64).saturating_mul(EXPANSION).saturating_add(ALLOWANCE)
}

/// Bytes of values that reading a pickle may build per byte of it.
///
/// Pickles as Python writes them stay below 40, which a list of empty lists comes to; a state dict
/// below 15.
const PICKLE_EXPANSION: u64 = 48;

/// What is allowed on top of [`PICKLE_EXPANSION`].
const PICKLE_ALLOWANCE: u64 = 1 << 20;

/// What is left of the memory and the work that a pickle may cost.
pub(crate) struct Budget {
    left: Cell<u64>,
}

impl Budget {
    /// The budget of a pickle of `length` bytes.
    pub(crate) fn for_pickle(length: usize) -> Self {
        let left = (length as u64).saturating_mul(PICKLE_EXPANSION);
        Self { left: Cell::new(left.saturating_add(PICKLE_ALLOWANCE)) }
    }

    /// Takes `bytes` off; `None` if there are not as many.
    pub(crate) fn charge(&self, bytes: usize) -> Option<()> {
        self.left.set(self.left.get().checked_sub(bytes as u64)?);
        Some(())
    }
}
