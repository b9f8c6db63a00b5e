//! Where sequences are cut in two, so that a state starts anew in the middle of a call.

use core::ops::Range;

use crate::batch::Batch;
use crate::carry::Carry;
use crate::check::{Dims, Form};
use crate::rows::RowsIn;
use crate::weights::Direction;
use crate::{Config, Element, Error, memory};

/// The cuts of a batch.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Cuts<'a> {
    batch: Batch<'a>,
    /// Whether there is a cut before the step, for each row of all steps.
    mask: &'a [bool],
}

impl<'a> Cuts<'a> {
    pub(crate) fn new(batch: Batch<'a>, mask: &'a [bool]) -> Self {
        assert_eq!(mask.len(), batch.rows_before(batch.steps()));
        Self { batch, mask }
    }

    /// Whether a cut lies between step `t` of row `b` and the step that is computed before it.
    #[inline]
    pub(crate) fn enters(&self, t: usize, b: usize, reverse: bool) -> bool {
        // A cut lies before its step in time, wherever the computation comes from.
        let t = if reverse { t + 1 } else { t };
        t < self.batch.steps()
            && b < self.batch.rows_at(t)
            && self.mask[self.batch.rows_before(t) + b]
    }
}

/// Cuts, with the states that one layer and direction has after them.
#[derive(Copy, Clone)]
pub(crate) struct Reset<'a, E> {
    pub(crate) cuts: Cuts<'a>,
    /// Rows of `h`, of which `index` stands for the step; zeros if none.
    pub(crate) h: Option<RowsIn<'a, E>>,
    /// Rows of `c`, likewise.
    pub(crate) c: Option<RowsIn<'a, E>>,
    pub(crate) index: usize,
    /// Whether there is a `c`.
    pub(crate) has_c: bool,
}

impl<E: Element> Reset<'_, E> {
    /// Resets the states in `carry` that enter step `t` across a cut, of the sequences `rows`.
    pub(crate) fn apply(
        &self,
        carry: &mut Carry<E>,
        direction: &Direction<E>,
        t: usize,
        rows: Range<usize>,
        reverse: bool,
    ) {
        for (at, b) in rows.enumerate() {
            if self.cuts.enters(t, b, reverse) {
                let (stride, units) = (direction.h_stride(), direction.units());
                reset(&mut carry.parts().0[at * stride..][..stride], self.h, self.index, b);
                if self.has_c {
                    reset(&mut carry.c[at * units..][..units], self.c, self.index, b);
                }
            }
        }
    }
}

/// Sets `to` to the row of sequence `b` at `index`, or to zeros.
fn reset<E: Element>(to: &mut [E], from: Option<RowsIn<'_, E>>, index: usize, b: usize) {
    match from {
        Some(from) => from.read(index, b, to),
        None => to.fill(E::ZERO),
    }
}

/// Brings `mask`, in the layout of the input, into the order of the rows of all steps.
pub(crate) fn cut_rows(
    mask: &[bool],
    config: &Config,
    dims: &Dims,
    batch: &Batch<'_>,
    order: Option<&[usize]>,
    into: &mut Vec<bool>,
) -> Result<(), Error> {
    if mask.len() != dims.sequence_rows() {
        let mut expected = dims.sequence_shape(config, 1);
        expected.pop();
        return Err(Error::Shape { tensor: "resets", expected, got: vec![mask.len()] });
    }
    memory::reserve(into, mask.len());
    if let Form::Packed(_) = dims.form {
        into.extend_from_slice(mask);
        return Ok(());
    }
    let batch_first = config.batch_first && !dims.unbatched();
    for t in 0..batch.steps() {
        into.extend((0..batch.rows_at(t)).map(|b| {
            let b = order.map_or(b, |order| order[b]);
            mask[if batch_first { b * dims.steps + t } else { t * dims.rows + b }]
        }));
    }
    Ok(())
}
