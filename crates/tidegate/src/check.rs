//! Arguments of a forward call, checked once.

use crate::rows::RowsIn;
use crate::{Config, Element, Error, Output, OutputMut, Packing, State, Tensor, View, memory};

/// The sizes of a checked input.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Dims {
    /// Number of steps, `T`.
    pub(crate) steps: usize,
    /// Number of sequences, `B`.
    pub(crate) rows: usize,
    pub(crate) form: Form,
}

/// What the dimensions of an input stand for.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Form {
    /// `[T, B, I]`, or `[B, T, I]` if `batch_first`.
    Batched,
    /// `[T, I]`
    Unbatched,
    /// `[rows, I]`, as many rows.
    Packed(usize),
}

/// Checks the shape of an input as PyTorch does.
pub(crate) fn check_input<E: Element>(
    config: &Config,
    x: &View<'_, E>,
    packing: Option<&Packing>,
) -> Result<Dims, Error> {
    let dims = match packing {
        None => check_array(config, x)?,
        Some(packing) => check_packed(config, x, packing)?,
    };
    // A view may repeat elements (stride 0), so its sizes may exceed memory; results may not.
    let widest = (config.num_layers * 2 * config.hidden_size).max(config.input_size);
    let elements = dims.steps.checked_mul(dims.rows).and_then(|n| n.checked_mul(widest));
    if elements.is_none_or(|n| n > isize::MAX as usize / 64) {
        return Err(Error::TooLarge { what: "the output" });
    }
    Ok(dims)
}

/// Checks `x: [T, B, I]` or what stands for it.
fn check_array<E: Element>(config: &Config, x: &View<'_, E>) -> Result<Dims, Error> {
    let shape = x.shape();
    if !(2..=3).contains(&shape.len()) {
        let got = shape.len();
        return Err(Error::Dimensions { tensor: "input", expected: "2D or 3D", got });
    }
    let inputs = shape[shape.len() - 1];
    if inputs != config.input_size {
        return Err(Error::InputSize { expected: config.input_size, got: inputs });
    }
    let (steps, rows) = match (shape, config.batch_first) {
        ([steps, _], _) => (*steps, 1),
        ([rows, steps, _], true) | ([steps, rows, _], false) => (*steps, *rows),
        _ => unreachable!("the number of dimensions was just checked"),
    };
    if steps == 0 {
        return Err(Error::EmptySequence);
    }
    let form = if shape.len() == 2 { Form::Unbatched } else { Form::Batched };
    Ok(Dims { steps, rows, form })
}

/// Checks the rows of packed sequences.
fn check_packed<E: Element>(
    config: &Config,
    x: &View<'_, E>,
    packing: &Packing,
) -> Result<Dims, Error> {
    let &[rows, inputs] = x.shape() else {
        let got = x.ndim();
        return Err(Error::Dimensions { tensor: "packed input", expected: "2D", got });
    };
    if inputs != config.input_size {
        return Err(Error::InputSize { expected: config.input_size, got: inputs });
    }
    if rows != packing.rows() {
        let reason = "data does not have as many rows as batch_sizes add up to";
        return Err(Error::InconsistentPack { reason });
    }
    let sizes = packing.batch_sizes();
    Ok(Dims { steps: sizes.len(), rows: sizes[0], form: Form::Packed(rows) })
}

impl Dims {
    /// Whether the input has no batch dimension.
    pub(crate) fn unbatched(&self) -> bool {
        self.form == Form::Unbatched
    }

    /// The shape of an array like the input, `width` elements a step.
    pub(crate) fn sequence_shape(&self, config: &Config, width: usize) -> Vec<usize> {
        match (self.form, config.batch_first) {
            (Form::Unbatched, _) => vec![self.steps, width],
            (Form::Packed(rows), _) => vec![rows, width],
            (Form::Batched, true) => vec![self.rows, self.steps, width],
            (Form::Batched, false) => vec![self.steps, self.rows, width],
        }
    }

    /// Number of rows of an array like the input.
    pub(crate) fn sequence_rows(&self) -> usize {
        match self.form {
            Form::Packed(rows) => rows,
            _ => self.steps * self.rows,
        }
    }

    /// Results of the right shapes, filled with zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn output<E: Element>(&self, config: &Config) -> Result<Output<E>, Error> {
        let shape = self.sequence_shape(config, config.num_directions() * config.output_size());
        let (h_n, c_n) = self.states(config)?;
        Ok(Output { output: Tensor::full(&shape, E::ZERO)?, h_n, c_n })
    }

    /// States of the right shapes, filled with zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn states<E: Element>(
        &self,
        config: &Config,
    ) -> Result<(Tensor<E>, Option<Tensor<E>>), Error> {
        let state = |size| Tensor::full(&self.state_shape(config, size), E::ZERO);
        let c = config.mode.has_cell_state().then(|| state(config.hidden_size)).transpose()?;
        Ok((state(config.output_size())?, c))
    }

    /// The shape of a state whose last dimension is `size`.
    pub(crate) fn state_shape(&self, config: &Config, size: usize) -> Vec<usize> {
        let scans = config.num_layers * config.num_directions();
        if self.unbatched() { vec![scans, size] } else { vec![scans, self.rows, size] }
    }

    /// Checks one state's shape and returns it as `[D*L, B, size]`.
    fn check_state<'a, E: Element>(
        &self,
        config: &Config,
        tensor: &'static str,
        view: View<'a, E>,
        size: usize,
    ) -> Result<View<'a, E>, Error> {
        let expected_dims = if self.unbatched() { 2 } else { 3 };
        if view.ndim() != expected_dims {
            let expected = if self.unbatched() {
                "2D, as the input is unbatched"
            } else {
                "3D, as the input is batched"
            };
            return Err(Error::Dimensions { tensor, expected, got: view.ndim() });
        }
        let scans = config.num_layers * config.num_directions();
        let [first, last] = [view.shape()[0], view.shape()[expected_dims - 1]];
        let rows_match = self.unbatched() || view.shape()[1] == self.rows;
        if first != scans || last != size || !rows_match {
            let expected = self.state_shape(config, size);
            return Err(Error::Shape { tensor, expected, got: view.shape().to_vec() });
        }
        Ok(if self.unbatched() { view.unsqueezed(1) } else { view })
    }
}

/// A checked state, as rows with the step standing for layer and direction.
#[derive(Copy, Clone)]
pub(crate) struct InitialState<'a, E> {
    h: View<'a, E>,
    c: Option<View<'a, E>>,
}

impl<'a, E: Element> InitialState<'a, E> {
    /// Checks `state` against the batch's sizes.
    pub(crate) fn check(config: &Config, rows: usize, state: State<'a, E>) -> Result<Self, Error> {
        Self::check_dims(config, &Dims { steps: 1, rows, form: Form::Batched }, state)
    }

    /// Checks `state` against an input's sizes.
    pub(crate) fn check_dims(
        config: &Config,
        dims: &Dims,
        state: State<'a, E>,
    ) -> Result<Self, Error> {
        let expected = config.mode.has_cell_state();
        if state.c.is_some() != expected {
            return Err(Error::CellState { expected });
        }
        let h = dims.check_state(config, "h_0", state.h, config.output_size())?;
        let c = match state.c {
            Some(c) => Some(dims.check_state(config, "c_0", c, config.hidden_size)?),
            None => None,
        };
        Ok(Self { h, c })
    }

    /// The rows of `h` and `c`, with sequence `b` at position `order[b]`.
    pub(crate) fn rows(self, order: Option<&'a [usize]>) -> (RowsIn<'a, E>, Option<RowsIn<'a, E>>) {
        (RowsIn::new(self.h, order), self.c.map(|c| RowsIn::new(c, order)))
    }
}

/// Checks the lengths of the caller's buffers.
pub(crate) fn check_results<E: Element>(
    config: &Config,
    dims: &Dims,
    out: &OutputMut<'_, E>,
) -> Result<(), Error> {
    let width = config.num_directions() * config.output_size();
    let scans = config.num_layers * config.num_directions();
    let cells = if config.mode.has_cell_state() { config.hidden_size } else { 0 };
    for (tensor, got, expected) in [
        ("output", out.output.len(), dims.sequence_rows() * width),
        ("h_n", out.h_n.len(), scans * dims.rows * config.output_size()),
        ("c_n", out.c_n.len(), scans * dims.rows * cells),
    ] {
        if got != expected {
            return Err(Error::Shape { tensor, expected: vec![expected], got: vec![got] });
        }
    }
    Ok(())
}

/// Sorts the rows of the batch by decreasing length into `order`, equal ones as they come, and
/// counts the packed rows before each step into `offsets`.
///
/// Returns whether any length is less than all steps.
pub(crate) fn sort_lengths(
    lengths: &[usize],
    dims: &Dims,
    order: &mut Vec<usize>,
    offsets: &mut Vec<usize>,
) -> Result<bool, Error> {
    if lengths.len() != dims.rows {
        return Err(Error::LengthsCount { batch: dims.rows, got: lengths.len() });
    }
    if let Some(row) = lengths.iter().position(|&length| length > dims.steps) {
        let (length, max) = (lengths[row], dims.steps);
        return Err(Error::LengthOutOfRange { row, length, min: 0, max });
    }
    order.clear();
    memory::reserve(order, lengths.len());
    order.extend(0..lengths.len());
    // Unstable sorting allocates nothing; the row number makes it stable.
    order.sort_unstable_by_key(|&row| (core::cmp::Reverse(lengths[row]), row));
    let longest = lengths.iter().copied().max().unwrap_or(0);
    offsets.clear();
    memory::reserve(offsets, longest + 1);
    offsets.push(0);
    let mut alive = lengths.len();
    for t in 0..longest {
        while alive > 0 && lengths[order[alive - 1]] <= t {
            alive -= 1;
        }
        offsets.push(offsets[t] + alive);
    }
    Ok(lengths.iter().any(|&length| length < dims.steps))
}
