//! Which sequences of a batch are alive at which step.

/// Which sequences are alive at which step.
///
/// Sequences are ordered by decreasing length, so the living ones are always the first: step `t`
/// has rows `0..rows(t)`.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Batch<'a> {
    /// All sequences have the same length.
    Equal {
        /// Number of steps, `T`.
        steps: usize,
        /// Number of sequences, `B`.
        rows: usize,
    },
    /// Lengths differ.
    Ragged {
        /// Number of sequences, with those of length zero.
        rows: usize,
        /// Row number of the first row of each step in packed data, and the total: `[T + 1]`.
        offsets: &'a [usize],
    },
}

impl Batch<'_> {
    /// Number of steps of the longest sequence.
    pub(crate) fn steps(&self) -> usize {
        match self {
            Self::Equal { steps, .. } => *steps,
            Self::Ragged { offsets, .. } => offsets.len() - 1,
        }
    }

    /// Number of sequences.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Equal { rows, .. } | Self::Ragged { rows, .. } => *rows,
        }
    }

    /// Number of sequences alive at step `t`.
    pub(crate) fn rows_at(&self, t: usize) -> usize {
        match self {
            Self::Equal { rows, .. } => *rows,
            Self::Ragged { offsets, .. } => offsets[t + 1] - offsets[t],
        }
    }

    /// Number of rows of all steps before `t`.
    pub(crate) fn rows_before(&self, t: usize) -> usize {
        match self {
            Self::Equal { rows, .. } => t * rows,
            Self::Ragged { offsets, .. } => offsets[t],
        }
    }
}
