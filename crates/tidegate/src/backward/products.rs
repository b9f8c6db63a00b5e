//! What remains when the derivatives by the gates' sums of all steps are known: large products.
#![allow(unsafe_code, reason = "rows are shared out among threads")]

use core::ops::Range;

use tidegate_simd::Level;

use super::transposed::Deltas;
use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::cell::Window;
use crate::kernel::outer::{ColumnSums, Outer, Panels};
use crate::kernel::pack::Packed;
use crate::kernel::sums::Sums;
use crate::rows::{RowsIn, RowsOut};
use crate::{Element, memory};

/// Rows of a chunk at least: the sums of a chunk round less than one sum over everything, and a tile loads
/// and stores its outputs once for so many rows.
const CHUNK_ROWS: usize = 128;

/// Elements of a gradient, about, that go through several chunks together: they stay in the level-2 cache.
const BLOCK: usize = 48 * 1024;

/// Units that are not divided, so that tiles are whole.
const UNITS: usize = 24;

/// Rows of an input gradient that read the weights together.
const INPUT_ROWS: usize = 96;

/// Steps of a chunk: as many as make enough rows, wherever they begin.
pub(crate) fn chunk_steps(batch: &Batch<'_>) -> usize {
    CHUNK_ROWS.div_ceil(batch.rows().max(1))
}

/// Some columns of rows of derivatives, packed step by step.
#[derive(Copy, Clone)]
pub(crate) struct Rows<'a, E> {
    pub(crate) batch: Batch<'a>,
    /// The rows of the steps that have been computed.
    pub(crate) rows: RowsOut<'a, E>,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
}

impl<E: Element> Rows<'_, E> {
    /// The rows `rows`, counted over all steps, from column `column` on.
    ///
    /// # Safety
    /// They must have been computed, and nobody may write them meanwhile.
    unsafe fn from(&self, rows: Range<usize>, column: usize) -> &[E] {
        let len = (rows.len() * self.stride).saturating_sub(column);
        if rows.is_empty() {
            return &[];
        }
        // SAFETY: the caller's; packed rows lie one after the other.
        unsafe {
            let from = self.rows.place(0, 0).wrapping_add(rows.start * self.stride + column);
            core::slice::from_raw_parts(from, len)
        }
    }
}

/// The gradients of a weight and a bias, for some of the units: `dW += deltas^T x`, chunk by chunk from the
/// last computed step to the first.
pub(crate) struct WeightGradient<'a, E> {
    pub(crate) level: Level,
    pub(crate) deltas: Rows<'a, E>,
    /// The values of the rows that count, and how many units each has.
    pub(crate) window: Window,
    pub(crate) size: usize,
    /// The units to compute.
    pub(crate) units: Range<usize>,
    /// Steps to go through, and whether the last of them was computed first.
    pub(crate) steps: Range<usize>,
    pub(crate) reverse: bool,
    /// What the weights were multiplied with, and how many columns that has.
    pub(crate) x: RowsIn<'a, E>,
    pub(crate) inputs: usize,
    /// `[gates * units, inputs]`, if wanted.
    pub(crate) weight: Option<RowsOut<'a, E>>,
    /// `[gates * units]`, if wanted.
    pub(crate) bias: Option<RowsOut<'a, E>>,
}

impl<E: Element> WeightGradient<'_, E> {
    /// Adds the gradients.
    pub(crate) fn run(self, panels: &mut Vec<Panels<E>>) {
        if self.units.is_empty() || self.weight.is_none() && self.bias.is_none() {
            return;
        }
        let length = chunk_steps(&self.deltas.batch);
        let chunks = self.steps.start / length..self.steps.end.div_ceil(length);
        let steps = |chunk: usize| {
            (chunk * length).max(self.steps.start)..((chunk + 1) * length).min(self.steps.end)
        };
        if self.weight.is_some() {
            memory::lengthen(panels, chunks.len());
            for (chunk, panels) in chunks.clone().zip(&mut *panels) {
                self.fill(steps(chunk), panels);
            }
        }
        // Of several chunks, a part of the gradient that stays in a near cache goes through all.
        let side = match chunks.len() {
            1 => self.units.len(),
            _ => (BLOCK / (self.inputs * self.window.gates.len())).max(1).next_multiple_of(UNITS),
        };
        for first in self.units.clone().step_by(side) {
            let units = first..(first + side).min(self.units.end);
            for index in 0..chunks.len() {
                let index = if self.reverse { index } else { chunks.len() - 1 - index };
                self.add_chunk(units.clone(), steps(chunks.start + index), panels.get(index));
            }
        }
    }

    /// Copies what the weights were multiplied with in `steps`.
    fn fill(&self, steps: Range<usize>, panels: &mut Panels<E>) {
        let batch = self.deltas.batch;
        let rows = batch.rows_before(steps.end) - batch.rows_before(steps.start);
        panels.prepare(self.level, rows, self.inputs);
        let mut row = 0;
        for t in steps {
            for b in 0..batch.rows_at(t) {
                panels.fill(row, |columns, to| {
                    self.x.columns(columns.start, columns.len()).read(t, b, to);
                });
                row += 1;
            }
        }
    }

    /// Adds the products of the rows of `steps` with what they were multiplied with, for `units`.
    fn add_chunk(&self, units: Range<usize>, steps: Range<usize>, x: Option<&Panels<E>>) {
        let batch = self.deltas.batch;
        let rows = batch.rows_before(steps.start)..batch.rows_before(steps.end);
        for (value, &gate) in self.window.gates.iter().enumerate() {
            let column = (self.window.first + value) * self.size + units.start;
            let (first, count) = (gate * self.size + units.start, units.len());
            let stride = self.deltas.stride;
            // SAFETY: the deltas have all been computed, and these units are this part's.
            unsafe {
                let deltas = self.deltas.from(rows.clone(), column);
                if let (Some(weight), Some(x)) = (&self.weight, x) {
                    let place = weight.place(0, first);
                    let out = core::slice::from_raw_parts_mut(place, count * self.inputs);
                    E::run(self.level, Outer { deltas, stride, columns: count, x, out });
                }
                if let Some(bias) = &self.bias {
                    let out = core::slice::from_raw_parts_mut(bias.place(0, first), count);
                    E::run(self.level, ColumnSums { deltas, stride, rows: rows.len(), out });
                }
            }
        }
    }
}

/// The gradient of a layer's input by one direction, for some of the rows: `dx += W_ih^T deltas`.
pub(crate) struct InputGradient<'a, E> {
    pub(crate) level: Level,
    pub(crate) deltas: Rows<'a, E>,
    pub(crate) form: Deltas,
    /// `W_ih^T`.
    pub(crate) w_ih: &'a Packed<E>,
    /// What its products start from.
    pub(crate) zeros: &'a [E],
    /// The rows to compute, counted over all steps.
    pub(crate) rows: Range<usize>,
    pub(crate) d_input: RowsOut<'a, E>,
    pub(crate) scratch: &'a mut Buffer<E>,
}

impl<E: Element> InputGradient<'_, E> {
    /// Adds the gradient.
    pub(crate) fn run(self) {
        let Self { level, deltas, form, w_ih: w, zeros, rows, .. } = self;
        let (d_input, scratch) = (self.d_input, self.scratch);
        let (batch, width) = (deltas.batch, w.width());
        scratch.reserve(INPUT_ROWS.min(rows.len()) * width);
        let mut t = 0;
        for first in rows.clone().step_by(INPUT_ROWS) {
            let part = first..(first + INPUT_ROWS).min(rows.end);
            // SAFETY: the deltas have all been computed.
            let x = unsafe { deltas.from(part.clone(), form.input.first * form.units) };
            let sums = Sums {
                w,
                start: zeros,
                x,
                x_stride: form.stride,
                out: &mut scratch[..],
                rows: part.len(),
                alone: false,
                blocks: 0..w.blocks,
            };
            E::sums(level, sums, None);
            for (at, row) in part.enumerate() {
                while row >= batch.rows_before(t + 1) {
                    t += 1;
                }
                // SAFETY: the rows are this part's.
                unsafe { d_input.add(t, row - batch.rows_before(t), &scratch[at * width..]) }
            }
        }
    }
}
