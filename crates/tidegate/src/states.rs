//! What a forward call in training has kept, for people to look at: cell states and gates of every step.
#![allow(unsafe_code, reason = "rows are written in the caller's order")]

use crate::cell::saved_values;
use crate::forward::sequence_layout;
use crate::rows::RowsOut;
use crate::saved::SavedScan;
use crate::{Element, Error, Saved, Tensor};

impl<E: Element> Saved<E> {
    /// The cell state `c` after every step, of all directions of `layer`: `[T, B, D*H]`, laid out as the call's
    /// output; zeros past a sequence's end. The last step's are the call's `c_n`, bit for bit.
    ///
    /// # Errors
    /// [`Error::CellState`] of a layer without; [`Error::NotSaved`] before the first call, with checkpoints, or if
    /// there is no such layer.
    pub fn cell_states(&self, layer: usize) -> Result<Tensor<E>, Error> {
        let what = "cell states";
        if self.call.is_some_and(|call| !call.config.mode.has_cell_state()) {
            return Err(Error::CellState { expected: false });
        }
        self.per_step(what, layer, 1, |gates, c, to| {
            let (i, f, g) = (gates[0], gates[1], gates[2]);
            to[0] = f.fma(c, i * g);
        })
    }

    /// The gates of every step after their activations, of all directions of `layer`, in PyTorch's order:
    /// `[T, B, D*G*H]`, laid out as the call's output; zeros past a sequence's end.
    ///
    /// They are i, f, g, o of an LSTM, r, z, n of a GRU (`G` is 4 and 3), and `h'` of an RNN.
    ///
    /// # Errors
    /// [`Error::NotSaved`] before the first call, with checkpoints, or if there is no such layer.
    pub fn gates(&self, layer: usize) -> Result<Tensor<E>, Error> {
        let count = self.call.map_or(1, |call| call.config.mode.gates());
        self.per_step("gates", layer, count, |gates, _, to| {
            to.copy_from_slice(&gates[..to.len()]);
        })
    }

    /// Asks `values` for `count` values of every step and unit, given what the cell saved of it and the `c` that
    /// entered.
    fn per_step(
        &self,
        what: &'static str,
        layer: usize,
        count: usize,
        values: impl Fn(&[E], E, &mut [E]),
    ) -> Result<Tensor<E>, Error> {
        let not_saved = |reason| Err(Error::NotSaved { what, reason });
        let Some(call) = &self.call else { return not_saved("no forward_train call was made") };
        let (config, dims) = (&call.config, &call.dims);
        if self.every > 0 {
            return not_saved("the call kept checkpoints instead of every step");
        }
        if layer >= config.num_layers {
            return not_saved("the layer does not have as many layers");
        }
        let scans = &self.scans[layer * config.num_directions()..][..config.num_directions()];
        let units = Units { size: config.hidden_size, lanes: E::lanes(call.level), count };
        let (saved, width) = (saved_values(config.mode), scans.len() * count * units.size);
        let (batch, order) = self.batch(call);
        let mut result = Tensor::full(&dims.sequence_shape(config, width), E::ZERO)?;
        let layout = sequence_layout(config, dims, &batch, width, order);
        // SAFETY: the result has the rows that the layout says, and the order is a permutation.
        let rows = unsafe { RowsOut::new(result.data_mut(), layout, width) };
        let mut row = vec![E::ZERO; width];
        for t in 0..batch.steps() {
            for b in 0..batch.rows_at(t) {
                let at = batch.rows_before(t) + b;
                for (scan, to) in scans.iter().zip(row.chunks_exact_mut(count * units.size)) {
                    units.read(scan, at, saved, &values, to);
                }
                // SAFETY: nothing else writes it.
                unsafe { rows.write(t, b, &row) };
            }
        }
        Ok(result)
    }
}

/// How the units of a row lie in what is saved.
struct Units {
    /// Hidden units.
    size: usize,
    /// Units of a block.
    lanes: usize,
    /// Values wanted of each unit.
    count: usize,
}

impl Units {
    /// Reads row `at`: all units of a value, then those of the next.
    fn read<E: Element>(
        &self,
        scan: &SavedScan<E>,
        at: usize,
        saved: usize,
        values: &impl Fn(&[E], E, &mut [E]),
        row: &mut [E],
    ) {
        let (mut gates, mut wanted) = ([E::ZERO; 4], [E::ZERO; 4]);
        let first = at * self.size.next_multiple_of(self.lanes);
        for unit in 0..self.size {
            let block = (first + unit / self.lanes * self.lanes) * saved + unit % self.lanes;
            for (value, gate) in gates[..saved].iter_mut().enumerate() {
                *gate = scan.gates[block + value * self.lanes];
            }
            let c = scan.c.get(first + unit).copied().unwrap_or(E::ZERO);
            values(&gates, c, &mut wanted[..self.count]);
            for (value, wanted) in wanted[..self.count].iter().enumerate() {
                row[value * self.size + unit] = *wanted;
            }
        }
    }
}
