//! Which sequences of a batch are alive at which step, and how they are shared out.

use core::ops::Range;

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

    /// Number of rows of all steps of the sequences `rows`.
    pub(crate) fn rows_of(&self, rows: Range<usize>) -> usize {
        let alive = |t| self.rows_at(t).clamp(rows.start, rows.end) - rows.start;
        match self {
            Self::Equal { steps, .. } => steps * rows.len(),
            Self::Ragged { .. } => (0..self.steps()).map(alive).sum(),
        }
    }

    /// The sequences of part `k` of `parts`, of which there must be as many sequences at least: neighbours, so that all parts
    /// have about as many rows of all steps.
    pub(crate) fn part(&self, k: usize, parts: usize) -> Range<usize> {
        match self {
            Self::Equal { rows, .. } => rows * k / parts..rows * (k + 1) / parts,
            Self::Ragged { .. } => self.ragged_part(k, parts),
        }
    }

    fn ragged_part(&self, k: usize, parts: usize) -> Range<usize> {
        let (rows, total) = (self.rows(), self.rows_before(self.steps()));
        let (mut start, mut end, mut before, mut length) = (0, 0, 0, self.steps());
        for part in 0..=k {
            (start, end) = (end, rows - (parts - 1 - part));
            if part + 1 == parts {
                break;
            }
            // Up to where the rows before are nearest to what this part and those before it should have.
            for b in start..end {
                while length > 0 && self.rows_at(length - 1) <= b {
                    length -= 1;
                }
                if b > start && (2 * before + length) * parts > 2 * total * (part + 1) {
                    end = b;
                    break;
                }
                before += length;
            }
        }
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offsets of sequences of these lengths, which must not increase.
    fn offsets(lengths: &[usize]) -> Vec<usize> {
        let alive = |t| lengths.iter().filter(|&&length| length > t).count();
        let mut offsets = vec![0];
        for t in 0..lengths.first().copied().unwrap_or(0) {
            offsets.push(offsets[t] + alive(t));
        }
        offsets
    }

    fn parts(batch: Batch<'_>, parts: usize) -> Vec<Range<usize>> {
        (0..parts).map(|k| batch.part(k, parts)).collect()
    }

    #[test]
    fn parts_cover_all_sequences_once_and_none_is_empty() {
        let lengths: [&[usize]; 5] =
            [&[9; 20], &[7, 7, 3, 2, 0, 0], &[100, 1, 1, 1], &[0, 0], &[1]];
        for lengths in lengths {
            let offsets = offsets(lengths);
            let ragged = Batch::Ragged { rows: lengths.len(), offsets: &offsets };
            for batch in [ragged, Batch::Equal { steps: 9, rows: lengths.len() }] {
                for count in 1..=lengths.len() {
                    let parts = parts(batch, count);
                    assert_eq!((parts[0].start, parts[count - 1].end), (0, lengths.len()));
                    assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
                    assert!(parts.iter().all(|part| !part.is_empty()), "{lengths:?} {parts:?}");
                    let rows: usize = parts.into_iter().map(|part| batch.rows_of(part)).sum();
                    assert_eq!(rows, batch.rows_before(batch.steps()));
                }
            }
        }
    }

    #[test]
    fn parts_have_about_as_many_rows() {
        let lengths: Vec<usize> = (1..=32).rev().map(|k| 3 * k).collect();
        let offsets = offsets(&lengths);
        let batch = Batch::Ragged { rows: 32, offsets: &offsets };
        for count in [2, 3, 4] {
            let equal = batch.rows_before(batch.steps()) / count;
            for part in parts(batch, count) {
                // Half the longest sequence at either end.
                assert!(batch.rows_of(part).abs_diff(equal) <= 96, "{count}");
            }
        }
        assert_eq!(parts(batch, 2), [0..10, 10..32]);
    }
}
