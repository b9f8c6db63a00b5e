//! Pieces of batches: which steps of which sequences, wherever they lie.

use crate::io::Array;

/// The axes of an input, whichever way they are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axes {
    /// T.
    pub(crate) steps: usize,
    /// B; none for one sequence `[T, I]`.
    pub(crate) batch: Option<usize>,
    batch_first: bool,
}

impl Axes {
    /// The axes of an input of `shape`, if it has two or three.
    pub(crate) fn of(shape: &[usize], batch_first: bool) -> Option<Self> {
        match *shape {
            [steps, _] => Some(Self { steps, batch: None, batch_first: false }),
            [batch, steps, _] if batch_first => {
                Some(Self { steps, batch: Some(batch), batch_first })
            }
            [steps, batch, _] => Some(Self { steps, batch: Some(batch), batch_first }),
            _ => None,
        }
    }

    /// B, 1 for one sequence.
    pub(crate) fn rows(self) -> usize {
        self.batch.unwrap_or(1)
    }

    /// The axes of `rows` of the sequences.
    pub(crate) fn with_rows(self, rows: usize) -> Self {
        Self { batch: Some(rows), ..self }
    }

    /// The shape of an array with `width` values per step and sequence.
    pub(crate) fn shape(self, width: usize) -> Vec<usize> {
        match self.batch {
            None => vec![self.steps, width],
            Some(batch) if self.batch_first => vec![batch, self.steps, width],
            Some(batch) => vec![self.steps, batch, width],
        }
    }

    /// Where an array of these axes has its values.
    pub(crate) fn layout(self) -> Layout {
        if self.batch_first {
            Layout { step: 1, row: self.steps, origin: 0 }
        } else {
            Layout::time_major(self.rows())
        }
    }
}

/// Where an array has the values of a step of a sequence, counted in groups of values of one step
/// of one sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    step: usize,
    row: usize,
    origin: usize,
}

impl Layout {
    /// `[T, B, *]`; also that of states, `[D*L, B, *]`, whose steps are layers and directions.
    pub(crate) fn time_major(rows: usize) -> Self {
        Self { step: rows, row: 1, origin: 0 }
    }

    /// The same array from `step` of the sequence `row` on.
    pub(crate) fn from(self, step: usize, row: usize) -> Self {
        Self { origin: self.origin + step * self.step + row * self.row, ..self }
    }
}

/// How much of two arrays is copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Steps.
    pub(crate) steps: usize,
    /// Sequences.
    pub(crate) rows: usize,
    /// Values per step and sequence.
    pub(crate) width: usize,
}

impl Block {
    /// Copies the block that begins where `from` does to where `to` does.
    pub(crate) fn copy<E: Copy>(self, source: &[E], from: Layout, target: &mut [E], to: Layout) {
        let width = self.width;
        for step in 0..self.steps {
            for row in 0..self.rows {
                let (here, there) =
                    (from.from(step, row).origin * width, to.from(step, row).origin * width);
                target[there..there + width].copy_from_slice(&source[here..here + width]);
            }
        }
    }
}

/// The sequences `row..row + rows` of a state `[D*L, B, *]`.
pub(crate) fn state_rows<E: Copy>(
    state: &Array<E>,
    row: usize,
    rows: usize,
    filler: E,
) -> Array<E> {
    let (layers, batch, width) = (state.shape[0], state.shape[1], state.shape[2]);
    let mut part =
        Array { shape: vec![layers, rows, width], data: vec![filler; layers * rows * width] };
    let from = Layout::time_major(batch).from(0, row);
    Block { steps: layers, rows, width }.copy(
        &state.data,
        from,
        &mut part.data,
        Layout::time_major(rows),
    );
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_from_either_layout_to_either() {
        // The value of step t of sequence b is 10 b + t, with two values each.
        let (steps, batch) = (4, 3);
        let arrays = [false, true].map(|batch_first| {
            let axes = Axes { steps, batch: Some(batch), batch_first };
            let mut data = vec![0; steps * batch * 2];
            for step in 0..steps {
                for row in 0..batch {
                    let at = axes.layout().from(step, row).origin * 2;
                    data[at..at + 2].copy_from_slice(&[10 * row + step, 100 + 10 * row + step]);
                }
            }
            (axes.layout(), data)
        });
        assert_eq!(arrays[0].1[..4], [0, 100, 10, 110]);
        assert_eq!(arrays[1].1[..4], [0, 100, 1, 101]);
        for (layout, data) in &arrays {
            let mut part = vec![0; 8];
            let block = Block { steps: 2, rows: 2, width: 2 };
            block.copy(data, layout.from(1, 1), &mut part, Layout::time_major(2));
            assert_eq!(part, [11, 111, 21, 121, 12, 112, 22, 122]);
        }
    }

    #[test]
    fn rows_of_a_state() {
        let state = Array { shape: vec![2, 3, 1], data: vec![0, 1, 2, 10, 11, 12] };
        let part = state_rows(&state, 1, 2, 0);
        assert_eq!(part, Array { shape: vec![2, 2, 1], data: vec![1, 2, 11, 12] });
    }
}
