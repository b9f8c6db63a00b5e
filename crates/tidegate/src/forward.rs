//! One forward call: from the caller's arguments to rows.
#![allow(unsafe_code, reason = "the output's rows lie in the caller's order")]

use crate::batch::Batch;
use crate::call::{Job, Memory};
use crate::check::{Dims, Form, InitialState, check_input, check_results, sort_lengths};
use crate::cuts::{Cuts, cut_rows};
use crate::rows::{Layout, RowsIn, RowsOut};
use crate::saved::{Saved, SavedCall};
use crate::stack::Stack;
use crate::workspace::Workspace;
use crate::{Config, Element, Error, Options, OutputMut, View, memory};

impl<E: Element> Stack<E> {
    /// Checks a call and runs it; keeps what backward needs if there is a place for it.
    pub(crate) fn forward_into<'a>(
        &self,
        x: View<'a, E>,
        options: Options<'a, E>,
        workspace: &mut Workspace<E>,
        saved: Option<&mut Saved<E>>,
        out: OutputMut<'_, E>,
    ) -> Result<(), Error> {
        memory::or_error(|| self.checked_forward(x, options, workspace, saved, out))
    }

    fn checked_forward<'a>(
        &self,
        x: View<'a, E>,
        options: Options<'a, E>,
        workspace: &mut Workspace<E>,
        saved: Option<&mut Saved<E>>,
        out: OutputMut<'_, E>,
    ) -> Result<(), Error> {
        let config = &self.config;
        let dims = check_input(config, &x, options.packing)?;
        let check_state = |state| InitialState::check_dims(config, &dims, state);
        let state = options.state.map(check_state).transpose()?;
        let reset_state = options.resets.and_then(|resets| resets.state);
        let reset_state = reset_state.map(check_state).transpose()?;
        check_results(config, &dims, &out)?;

        let Workspace { between, masks, order, offsets, cuts, exchange, tasks, .. } = workspace;
        let (batch, order) = match (options.packing, options.lengths) {
            (Some(packing), None) => (packing.batch(), packing.sorted_indices()),
            (Some(_), Some(_)) => {
                return Err(Error::InconsistentPack { reason: "lengths given beside it" });
            }
            (None, Some(lengths)) if sort_lengths(lengths, &dims, order, offsets)? => {
                out.output.fill(options.padding_value);
                (Batch::Ragged { rows: dims.rows, offsets }, Some(&order[..]))
            }
            (None, _) => (Batch::Equal { steps: dims.steps, rows: dims.rows }, None),
        };
        cuts.clear();
        if let Some(resets) = options.resets {
            cut_rows(resets.before, config, &dims, &batch, order, cuts)?;
        }

        let width = config.num_directions() * config.output_size();
        let layout = sequence_layout(config, &dims, &batch, width, order);
        let job = Job {
            batch,
            input: sequence_rows(config, &dims, &batch, x, order),
            // SAFETY: the length was checked to be that of all rows, and `order` is a permutation of the
            // sequences.
            output: unsafe { RowsOut::new(out.output, layout, width) },
            state,
            order,
            h_n: out.h_n,
            c_n: out.c_n,
            dropout: options.dropout,
            resets: options.resets.map(|_| (Cuts::new(batch, cuts), reset_state)),
        };
        let memory = match saved {
            None => Memory { between, masks, exchange, tasks, saved: None },
            Some(saved) => {
                let dropout = job.dropout.is_some();
                let resets_to = reset_state.is_some();
                let (config, level) = (*config, self.level);
                let call = SavedCall { config, level, dims, dropout, resets_to };
                saved.begin(call, &batch, order, cuts);
                let span = saved.span(&batch);
                if let Some(state) = reset_state.filter(|_| span.is_some()) {
                    saved.keep_reset_state(state.rows(order), &call);
                }
                let Saved { between, masks, scans, .. } = saved;
                Memory { between, masks, exchange, tasks, saved: Some((scans, span)) }
            }
        };
        self.run(job, memory);
        Ok(())
    }
}

/// The rows of an array shaped as the input.
pub(crate) fn sequence_rows<'a, E: Element>(
    config: &Config,
    dims: &Dims,
    batch: &Batch<'a>,
    x: View<'a, E>,
    order: Option<&'a [usize]>,
) -> RowsIn<'a, E> {
    match (dims.form, config.batch_first) {
        (Form::Packed(_), _) => RowsIn::packed_view(x, batch),
        (Form::Unbatched, _) => RowsIn::new(x.unsqueezed(1), order),
        (Form::Batched, true) => RowsIn::new(x.swapped(0, 1), order),
        (Form::Batched, false) => RowsIn::new(x, order),
    }
}

/// Where the rows lie of an array of the caller's like the input, `width` elements each, row-major.
pub(crate) fn sequence_layout<'a>(
    config: &Config,
    dims: &Dims,
    batch: &Batch<'a>,
    width: usize,
    order: Option<&'a [usize]>,
) -> Layout<'a> {
    let (time, row) = match (dims.form, config.batch_first) {
        (Form::Packed(_), _) => return Layout::packed(batch, width),
        // Of a batch without rows there may be more steps than memory for a row of each.
        (Form::Batched, true) => (width, dims.steps.wrapping_mul(width)),
        _ => (dims.rows * width, width),
    };
    Layout::strided(time as isize, row as isize, order)
}
