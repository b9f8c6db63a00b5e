//! One forward call: from the caller's arguments to rows.
#![allow(unsafe_code, reason = "the output's rows lie in the caller's order")]

use crate::call::{Job, Memory};
use crate::check::{Dims, InitialState, check_input, check_results, sort_lengths};
use crate::cuts::{Cuts, cut_rows};
use crate::rnn::Shared;
use crate::rows::{Batch, Layout, RowsIn, RowsOut};
use crate::saved::{Saved, SavedCall};
use crate::workspace::Workspace;
use crate::{Config, Element, Error, Options, OutputMut, View};

impl<E: Element> Shared<E> {
    /// Checks a call and runs it; keeps what backward needs if there is a place for it.
    pub(crate) fn forward_into<'a>(
        &self,
        x: View<'a, E>,
        options: Options<'a, E>,
        workspace: &mut Workspace<E>,
        saved: Option<&mut Saved<E>>,
        out: OutputMut<'_, E>,
    ) -> Result<(), Error> {
        let config = &self.config;
        let dims = check_input(config, &x)?;
        let check_state = |state| InitialState::check_dims(config, &dims, state);
        let state = options.state.map(check_state).transpose()?;
        let reset_state = options.resets.and_then(|resets| resets.state);
        let reset_state = reset_state.map(check_state).transpose()?;
        check_results(config, &dims, &out)?;

        let Workspace { between, masks, order, offsets, cuts, exchange, tasks, .. } = workspace;
        let ragged = match options.lengths {
            Some(lengths) => sort_lengths(lengths, &dims, order, offsets)?,
            None => false,
        };
        let (batch, order) = if ragged {
            out.output.fill(options.padding_value);
            (Batch::Ragged { rows: dims.rows, offsets }, Some(&order[..]))
        } else {
            (Batch::Equal { steps: dims.steps, rows: dims.rows }, None)
        };
        cuts.clear();
        if let Some(resets) = options.resets {
            let batch_first = config.batch_first && !dims.unbatched;
            let sizes = [dims.steps, dims.rows];
            cut_rows(resets.before, sizes, batch_first, &batch, order, cuts)?;
        }

        let width = config.num_directions() * config.output_size();
        let layout = sequence_layout(config, &dims, width, order);
        let job = Job {
            batch,
            input: RowsIn::new(time_major(config, &dims, x), order),
            // SAFETY: the length was checked to be `steps * rows * width`, and `order` is a
            // permutation of the rows.
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
                let call = SavedCall { config, level, dims, ragged, dropout, resets_to };
                saved.begin(call, order, offsets, cuts);
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

/// `x` as `[T, B, *]`.
pub(crate) fn time_major<'a, E: Element>(
    config: &Config,
    dims: &Dims,
    x: View<'a, E>,
) -> View<'a, E> {
    match (dims.unbatched, config.batch_first) {
        (true, _) => x.unsqueezed(1),
        (false, true) => x.swapped(0, 1),
        (false, false) => x,
    }
}

/// Where the rows lie of an array of the caller's like the input, `width` elements each, row-major.
pub(crate) fn sequence_layout<'a>(
    config: &Config,
    dims: &Dims,
    width: usize,
    order: Option<&'a [usize]>,
) -> Layout<'a> {
    let (time, row) = if config.batch_first && !dims.unbatched {
        (width, dims.steps * width)
    } else {
        (dims.rows * width, width)
    };
    Layout::strided(time as isize, row as isize, order)
}
