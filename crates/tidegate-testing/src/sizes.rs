//! Sizes to sweep: one, around every vector width from 4 to 16 and its multiples, and what people use.

/// Input and hidden sizes.
pub const SIZES: [usize; 23] =
    [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 36, 63, 64, 65, 68, 100, 127, 128, 129, 256, 257, 512];

/// The part of [`SIZES`] that is quick in a loop inside a loop.
pub const SMALL_SIZES: [usize; 12] = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 36];

/// Rows of a batch. None at all is allowed.
pub const BATCHES: [usize; 10] = [0, 1, 2, 3, 4, 7, 8, 16, 17, 64];

/// Steps of a sequence.
pub const STEPS: [usize; 6] = [1, 2, 3, 7, 64, 1000];

/// Layers of a stack.
pub const LAYERS: [usize; 4] = [1, 2, 3, 8];

/// Threads on which the bits must be the same.
pub const THREADS: [usize; 4] = [1, 2, 3, 8];
