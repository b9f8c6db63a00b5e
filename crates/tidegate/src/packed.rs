//! A forward call over a packed sequence.

use crate::call::{Job, Memory};
use crate::check::InitialState;
use crate::rows::{RowsIn, RowsOut};
use crate::{Element, Error, Options, OutputMut, PackedSequence, RnnBase, Tensor, Workspace};

/// The results of a packed call: the packed output, `h_n`, and `c_n` of an LSTM.
pub type PackedOutput<E> = (PackedSequence<E>, Tensor<E>, Option<Tensor<E>>);

impl<E: Element> RnnBase<E> {
    /// Runs the layer over a packed sequence of `data: [rows, I]`; `batch_first` has no meaning
    /// here. Initial and final states are in the order of the caller's sequences.
    ///
    /// # Errors
    /// If the rows or a state have the wrong shape; [`Error::InconsistentPack`] if `options`
    /// has lengths, since the sequence has its own.
    pub fn forward_packed(
        &self,
        x: &PackedSequence<E>,
        options: Options<'_, E>,
    ) -> Result<PackedOutput<E>, Error> {
        let config = self.config();
        if options.lengths.is_some() {
            return Err(Error::InconsistentPack { reason: "lengths given beside it" });
        }
        let shape = x.data.shape();
        if shape.len() != 2 {
            let (tensor, got) = ("packed input", shape.len());
            return Err(Error::Dimensions { tensor, expected: "2D", got });
        }
        if shape[1] != config.input_size {
            return Err(Error::InputSize { expected: config.input_size, got: shape[1] });
        }
        let (batch, rows) = (x.batch(), x.batch_sizes[0]);
        let state = match options.state {
            Some(state) => Some(InitialState::check(config, rows, state)?),
            None => None,
        };

        let width = config.num_directions() * config.output_size();
        let scans = config.num_layers * config.num_directions();
        let mut output = Tensor::full(&[shape[0], width], E::ZERO);
        let mut h_n = Tensor::full(&[scans, rows, config.output_size()], E::ZERO);
        let mut c_n = config
            .mode
            .has_cell_state()
            .then(|| Tensor::full(&[scans, rows, config.hidden_size], E::ZERO));
        let out = OutputMut {
            output: output.data_mut(),
            h_n: h_n.data_mut(),
            c_n: c_n.as_mut().map_or(&mut [], Tensor::data_mut),
        };
        let Workspace { mut between, mut masks, mut exchange, mut tasks, .. } = Workspace::new();
        let memory = Memory {
            between: &mut between,
            masks: &mut masks,
            exchange: &mut exchange,
            tasks: &mut tasks,
            saved: None,
        };
        let job = Job {
            batch,
            input: RowsIn::packed(x.data.data(), &batch, config.input_size),
            output: RowsOut::packed(out.output, &batch, width),
            state,
            order: x.sorted_indices.as_deref(),
            h_n: out.h_n,
            c_n: out.c_n,
            dropout: options.dropout,
            resets: None,
        };
        self.shared().run(job, memory);
        Ok((x.with_data(output), h_n, c_n))
    }
}
