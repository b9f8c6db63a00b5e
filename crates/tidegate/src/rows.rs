//! Where the row of a step and a sequence lies in memory.
#![allow(unsafe_code, reason = "rows of strided arrays, and rows shared out among threads")]

use core::marker::PhantomData;
use core::ops::Range;

use crate::batch::Batch;
use crate::{Element, View};

/// How the offset of a row follows from its step and its place in the batch.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Layout<'a> {
    time: Time<'a>,
    /// Elements from one sequence to the next.
    row: isize,
    /// Position in the array of each sequence of the batch, where they were sorted by length.
    order: Option<&'a [usize]>,
}

#[derive(Copy, Clone, Debug)]
enum Time<'a> {
    /// Elements from one step to the next.
    Stride(isize),
    /// Row number of the first row of each step.
    Offsets(&'a [usize]),
}

impl<'a> Layout<'a> {
    /// Rows at fixed strides, with sequence `b` at position `order[b]`.
    pub(crate) fn strided(time: isize, row: isize, order: Option<&'a [usize]>) -> Self {
        Self { time: Time::Stride(time), row, order }
    }

    /// Rows of `width` elements one after the other, step by step, as packed data lie.
    pub(crate) fn packed(batch: &Batch<'a>, width: usize) -> Self {
        let row = width as isize;
        let time = match *batch {
            Batch::Equal { rows, .. } => Time::Stride(rows as isize * row),
            Batch::Ragged { offsets, .. } => Time::Offsets(offsets),
        };
        Self { time, row, order: None }
    }

    /// Offset of the first element of the row of sequence `b` at step `t`.
    fn offset(&self, t: usize, b: usize) -> isize {
        let b = self.order.map_or(b, |order| order[b]) as isize;
        match self.time {
            Time::Stride(time) => t as isize * time + b * self.row,
            Time::Offsets(offsets) => (offsets[t] as isize + b) * self.row,
        }
    }

    /// Elements from a row to that of the same sequence a step later, if that is the same for all steps.
    fn stride(&self) -> Option<isize> {
        match self.time {
            Time::Stride(stride) => Some(stride),
            Time::Offsets(_) => None,
        }
    }
}

/// Rows to read.
#[derive(Copy, Clone)]
pub(crate) struct RowsIn<'a, E> {
    // INVARIANT: `width` elements `feature` apart are readable from `origin + offset(t, b)`, for
    // every step and sequence of the batch the rows were made for.
    origin: *const E,
    layout: Layout<'a>,
    feature: isize,
    width: usize,
    lifetime: PhantomData<&'a [E]>,
}

/// Rows to write.
#[derive(Copy, Clone)]
pub(crate) struct RowsOut<'a, E> {
    // INVARIANT: `width` elements are writable from `origin + offset(t, b)`, for every step and
    // sequence of the batch the rows were made for, and nobody else touches them.
    origin: *mut E,
    layout: Layout<'a>,
    width: usize,
    lifetime: PhantomData<&'a mut [E]>,
}

// SAFETY: rows are only read, as `&[E]` would be.
unsafe impl<E: Sync> Send for RowsIn<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for RowsIn<'_, E> {}
// SAFETY: `write` is unsafe, and its caller vouches that no two threads write one row.
unsafe impl<E: Send> Send for RowsOut<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Send> Sync for RowsOut<'_, E> {}

impl<'a, E: Element> RowsIn<'a, E> {
    /// The rows of `view: [T, B, width]`, with sequence `b` at position `order[b]`.
    ///
    /// The batch must have at most `T` steps and `B` sequences, and `order` must stay below `B`.
    pub(crate) fn new(view: View<'a, E>, order: Option<&'a [usize]>) -> Self {
        let (origin, shape, strides) = view.parts();
        assert_eq!(shape.len(), 3);
        assert!(order.is_none_or(|order| order.iter().all(|&b| b < shape[1])));
        let layout = Layout::strided(strides[0], strides[1], order);
        Self { origin, layout, feature: strides[2], width: shape[2], lifetime: PhantomData }
    }

    /// The rows of `view: [rows, width]`, with the steps of packed sequences one after the other.
    pub(crate) fn packed_view(view: View<'a, E>, batch: &Batch<'a>) -> Self {
        let (origin, shape, strides) = view.parts();
        assert!(shape.len() == 2 && shape[0] >= batch.rows_before(batch.steps()));
        let layout = Layout { row: strides[0], ..Layout::packed(batch, 1) };
        Self { origin, layout, feature: strides[1], width: shape[1], lifetime: PhantomData }
    }

    /// The rows of packed data: `data: [rows, width]` with the steps one after the other.
    pub(crate) fn packed(data: &'a [E], batch: &Batch<'a>, width: usize) -> Self {
        assert!(data.len() >= batch.rows_before(batch.steps()) * width);
        let layout = Layout::packed(batch, width);
        Self { origin: data.as_ptr(), layout, feature: 1, width, lifetime: PhantomData }
    }

    /// The rows of packed data from row `base` of all steps on, as many as `data` holds.
    ///
    /// # Safety
    /// Rows that are not there must not be read: `data` is not as long as the batch.
    pub(crate) unsafe fn packed_from(
        data: &'a [E],
        batch: &Batch<'a>,
        base: usize,
        width: usize,
    ) -> Self {
        let layout = Layout::packed(batch, width);
        let origin = data.as_ptr().wrapping_sub(base * width);
        Self { origin, layout, feature: 1, width, lifetime: PhantomData }
    }

    /// The rows of states `[L * D, rows, size]`, with the step standing for layer and direction.
    ///
    /// # Safety
    /// `data` must be as long for every state that is read.
    pub(crate) unsafe fn states(data: &'a [E], rows: usize, size: usize) -> Self {
        let layout = Layout::strided((rows * size) as isize, size as isize, None);
        Self { origin: data.as_ptr(), layout, feature: 1, width: size, lifetime: PhantomData }
    }

    /// Of the same rows, the columns from `column` on, `width` of them.
    pub(crate) fn columns(&self, column: usize, width: usize) -> Self {
        assert!(column + width <= self.width);
        let origin = self.origin.wrapping_offset(column as isize * self.feature);
        Self { origin, width, ..*self }
    }

    /// The sequences `rows` of the steps `steps`, `count` rows in all, if these lie one after the other without gaps, sequence
    /// by sequence, then step by step.
    #[inline(always)]
    pub(crate) fn in_one_piece(
        &self,
        batch: &Batch<'_>,
        steps: Range<usize>,
        rows: Range<usize>,
        count: usize,
    ) -> Option<&'a [E]> {
        let width = self.width as isize;
        let is_step = self.feature == 1
            && (rows.len() == 1 || self.layout.row == width && self.layout.order.is_none());
        let is_next = steps.len() == 1
            || match self.layout.time {
                Time::Stride(time) => time == rows.len() as isize * width,
                Time::Offsets(_) => rows == (0..batch.rows()),
            };
        // Of fewer rows in some steps than in others, a fixed stride leaves gaps.
        let is_full = matches!(self.layout.time, Time::Offsets(_))
            || steps.len() == 1
            || count == steps.len() * rows.len();
        if !(is_step && is_next && is_full) {
            return None;
        }
        let from = self.origin.wrapping_offset(self.layout.offset(steps.start, rows.start));
        // SAFETY: the invariant, and all that was just asked.
        Some(unsafe { core::slice::from_raw_parts(from, count * self.width) })
    }

    /// Where the row of sequence `b` at step `t` lies, and elements from there to the next step's, if these are the
    /// same for all steps and a row's elements are neighbours.
    pub(crate) fn steps(&self, t: usize, b: usize) -> Option<(*const E, isize)> {
        let stride = self.layout.stride().filter(|_| self.feature == 1)?;
        Some((self.origin.wrapping_offset(self.layout.offset(t, b)), stride))
    }

    /// Copies the row of sequence `b` at step `t` into the first `width` elements of `to`.
    #[inline(always)]
    pub(crate) fn read(&self, t: usize, b: usize, to: &mut [E]) {
        let to = &mut to[..self.width];
        // `wrapping_offset`: an empty row may lie nowhere.
        let from = self.origin.wrapping_offset(self.layout.offset(t, b));
        if self.feature == 1 {
            for (k, to) in to.iter_mut().enumerate() {
                // SAFETY: the invariant.
                *to = unsafe { *from.add(k) };
            }
        } else {
            for (k, to) in to.iter_mut().enumerate() {
                // SAFETY: the invariant.
                *to = unsafe { *from.offset(k as isize * self.feature) };
            }
        }
    }
}

impl<'a, E: Element> RowsOut<'a, E> {
    /// Rows of `width` elements within `data`, where `layout` says.
    ///
    /// # Safety
    /// For every step and sequence of the batch, the layout must lead to a row within `data`, to a
    /// different one for each.
    pub(crate) unsafe fn new(data: &'a mut [E], layout: Layout<'a>, width: usize) -> Self {
        Self { origin: data.as_mut_ptr(), layout, width, lifetime: PhantomData }
    }

    /// The rows of packed data: `data: [rows, width]` with the steps one after the other.
    pub(crate) fn packed(data: &'a mut [E], batch: &Batch<'a>, width: usize) -> Self {
        assert!(data.len() >= batch.rows_before(batch.steps()) * width);
        // SAFETY: packed rows lie one after the other, and the length was just checked.
        unsafe { Self::new(data, Layout::packed(batch, width), width) }
    }

    /// The rows of `steps` of packed data, of which `data` holds no others.
    pub(crate) fn packed_from(
        data: &'a mut [E],
        batch: &Batch<'a>,
        steps: Range<usize>,
        width: usize,
    ) -> Self {
        let before = batch.rows_before(steps.start);
        assert!(data.len() >= (batch.rows_before(steps.end) - before) * width);
        let origin = data.as_mut_ptr().wrapping_sub(before * width);
        Self { origin, layout: Layout::packed(batch, width), width, lifetime: PhantomData }
    }

    /// Where the row of sequence `b` at step `t` lies.
    #[inline(always)]
    pub(crate) fn place(&self, t: usize, b: usize) -> *mut E {
        self.origin.wrapping_offset(self.layout.offset(t, b))
    }

    /// Where the row of sequence `b` at step `t` lies, elements from there to the next step's, if these are the same
    /// for all steps, and elements of a row.
    pub(crate) fn steps(&self, t: usize, b: usize) -> Option<(*mut E, isize, usize)> {
        Some((self.place(t, b), self.layout.stride()?, self.width))
    }

    /// The rows `elements` further on.
    ///
    /// # Safety
    /// They must be there as these are.
    pub(crate) unsafe fn shifted(&self, elements: usize) -> Self {
        Self { origin: self.origin.wrapping_add(elements), ..*self }
    }

    /// Adds the first `width` elements of `from` to the row of sequence `b` at step `t`.
    ///
    /// # Safety
    /// No other thread may access the same row at the same time.
    pub(crate) unsafe fn add(&self, t: usize, b: usize, from: &[E]) {
        let to = self.place(t, b);
        for (k, &from) in from[..self.width].iter().enumerate() {
            // SAFETY: the invariant; the caller vouches for exclusivity.
            unsafe { *to.add(k) = *to.add(k) + from };
        }
    }

    /// Of the same rows, the `width` elements from `column` on.
    pub(crate) fn columns(&self, column: usize, width: usize) -> Self {
        assert!(column + width <= self.width);
        Self { origin: self.origin.wrapping_add(column), width, ..*self }
    }

    /// The same rows, to read.
    ///
    /// # Safety
    /// While a row is read, nobody may write it.
    pub(crate) unsafe fn reader(&self) -> RowsIn<'a, E> {
        let Self { origin, layout, width, .. } = *self;
        RowsIn { origin, layout, feature: 1, width, lifetime: PhantomData }
    }

    /// Multiplies the row of sequence `b` at step `t` by `factors`, element by element.
    ///
    /// # Safety
    /// No other thread may access the same row at the same time.
    pub(crate) unsafe fn scale(&self, t: usize, b: usize, factors: &[E]) {
        let row = self.origin.wrapping_offset(self.layout.offset(t, b));
        for (k, &factor) in factors[..self.width].iter().enumerate() {
            // SAFETY: the invariant; the caller vouches for exclusivity.
            unsafe { *row.add(k) = *row.add(k) * factor };
        }
    }

    /// Copies the first `width` elements of `from` into the row of sequence `b` at step `t`.
    ///
    /// # Safety
    /// No other thread may access the same row at the same time.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, t: usize, b: usize, from: &[E]) {
        let from = &from[..self.width];
        // SAFETY: the invariant; the caller vouches for exclusivity, so that `from` does not lie there.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), self.place(t, b), from.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`RowsIn::in_one_piece`] says of `rows` of all `steps`, which must be what reading them one by one gives.
    fn piece(
        input: RowsIn<'_, f32>,
        batch: Batch<'_>,
        steps: Range<usize>,
        rows: Range<usize>,
    ) -> bool {
        let alive = |t| batch.rows_at(t).clamp(rows.start, rows.end) - rows.start;
        let count = steps.clone().map(alive).sum();
        let mut want = Vec::new();
        for t in steps.clone() {
            for b in 0..alive(t) {
                let mut row = vec![0.0; input.width];
                input.read(t, rows.start + b, &mut row);
                want.extend(row);
            }
        }
        let got = input.in_one_piece(&batch, steps, rows, count);
        assert!(got.is_none_or(|got| got == want), "{got:?} {want:?}");
        got.is_some()
    }

    #[test]
    fn rows_in_one_piece_are_found_where_they_are_and_nowhere_else() {
        let data: Vec<f32> = (0..48).map(|k| k as f32).collect();
        let batch = Batch::Equal { steps: 4, rows: 3 };
        let time_first = View::new(&data, &[4, 3, 4]).unwrap();
        let input = RowsIn::new(time_first, None);
        assert!(piece(input, batch, 0..4, 0..3));
        assert!(piece(input, batch, 1..3, 0..3));
        assert!(piece(input, batch, 2..3, 1..3));
        assert!(!piece(input, batch, 1..3, 1..3));
        assert!(!piece(input, batch, 1..3, 1..2));
        let batch_first = RowsIn::new(View::new(&data, &[3, 4, 4]).unwrap().swapped(0, 1), None);
        assert!(!piece(batch_first, batch, 0..4, 0..3));
        assert!(!piece(batch_first, batch, 2..3, 0..3));
        assert!(piece(batch_first, batch, 0..4, 1..2));
        let in_another_order = RowsIn::new(time_first, Some(&[2, 0, 1]));
        assert!(!piece(in_another_order, batch, 0..4, 0..3));
        assert!(piece(in_another_order, batch, 1..2, 0..1));
        assert!(!piece(input.columns(1, 2), batch, 0..4, 0..3));
        assert!(piece(input.columns(1, 2), batch, 1..2, 2..3));
        let features_first = RowsIn::new(View::new(&data, &[4, 4, 3]).unwrap().swapped(1, 2), None);
        assert!(!piece(features_first, batch, 1..2, 0..1));

        let ragged = Batch::Ragged { rows: 3, offsets: &[0, 3, 5, 6] };
        assert!(!piece(input, ragged, 0..3, 0..3));
        assert!(!piece(input, ragged, 1..3, 1..3));
        assert!(piece(input, ragged, 1..2, 0..3));
        let packed = RowsIn::packed(&data, &ragged, 4);
        assert!(piece(packed, ragged, 0..3, 0..3));
        assert!(!piece(packed, ragged, 0..2, 0..2));
        assert!(!piece(packed, ragged, 1..3, 1..3));
        assert!(piece(packed, ragged, 1..2, 1..3));
    }
}
