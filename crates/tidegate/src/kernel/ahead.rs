//! Which weights are asked for ahead of their use.

use tidegate_simd::{Element, Simd, prefetch};

/// A cache line.
pub(super) const LINE_BYTES: usize = 64;

/// Weights that a core may have in its level-2 cache when it comes back to them. Asking for them ahead of their use
/// costs a twentieth of the time then, even where it is worth a fifth beyond (Zen 5).
const NEAR_BYTES: usize = 768 << 10;

/// Whether a row alone asks for what it reads next of so many bytes of weights.
#[inline(always)]
pub(super) fn row_asks(bytes: usize) -> bool {
    bytes > NEAR_BYTES && prefetch().stream
}

/// Whether so many rows ask for the next block of as many.
#[inline(always)]
pub(super) fn rows_ask(rows: usize, bytes: usize) -> bool {
    bytes > NEAR_BYTES && rows >= prefetch().next_block_rows
}

/// Where the weights of a block lie: for each input so many bytes.
#[derive(Copy, Clone, Debug)]
pub(super) struct Weights {
    pub(super) first: *const u8,
    pub(super) inputs: usize,
    pub(super) bytes: usize,
}

impl Weights {
    /// Bytes of the block.
    #[inline(always)]
    pub(super) fn block_bytes(self) -> usize {
        self.inputs * self.bytes
    }
}

/// The part of the next block's weights that a tile of many rows asks for: some bytes with every input.
///
/// Where the weights come from further away than the level-2 cache, the first tile of a block would wait for them. Spread
/// over all its tiles they arrive meanwhile, few at a time: asked for all at once they take the places of what the
/// tile itself waits for.
#[derive(Copy, Clone, Debug)]
pub(super) struct Share {
    at: *const u8,
    bytes: usize,
}

impl Share {
    /// Of nothing.
    pub(super) const NOTHING: Self = Self { at: core::ptr::null(), bytes: 0 };

    /// The first of `tiles` shares of the weights of `blocks` blocks.
    #[inline(always)]
    pub(super) fn first(weights: Weights, blocks: usize, tiles: usize) -> Self {
        let bytes = (blocks * weights.bytes).div_ceil(tiles).min(LINE_BYTES);
        Self { at: weights.first, bytes }
    }

    /// The one after this.
    #[inline(always)]
    pub(super) fn next(self, inputs: usize) -> Self {
        Self { at: self.at.wrapping_add(inputs * self.bytes), ..self }
    }

    /// Asks for what comes with the next `inputs` inputs.
    #[inline(always)]
    pub(super) fn ask<E: Element, S: Simd<E>>(&mut self, s: S, inputs: usize) {
        if self.bytes > 0 {
            for _ in 0..inputs {
                s.prefetch(self.at);
                self.at = self.at.wrapping_add(self.bytes);
            }
        }
    }

    /// Where it begins.
    #[cfg(test)]
    pub(super) fn begin(self) -> usize {
        self.at.addr()
    }
}
