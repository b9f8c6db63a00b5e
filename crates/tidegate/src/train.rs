//! Training: forward calls that keep what the way back needs, and the way back.
#![allow(unsafe_code, reason = "gradients lie in the caller's order")]

use crate::backward::{BackJob, run_back};
use crate::call::state_rows;
use crate::check::check_input;
use crate::forward::{sequence_layout, sequence_rows};
use crate::rows::{Layout, RowsIn, RowsOut};
use crate::saved::{Saved, SavedCall};
use crate::{
    Config, Element, Error, Functional, Gradients, GradientsMut, Options, Output, OutputMut,
    RnnBase, Tensor, Upstream, View, Workspace, memory,
};

impl<E: Element> RnnBase<E> {
    /// [`forward_with`](Self::forward_with), keeping in `saved` what [`backward`](Self::backward) needs. The
    /// results have the same bits.
    ///
    /// ```
    /// use tidegate::{Config, Mode, Options, RnnBase, Saved, Tensor, Upstream};
    /// let lstm = RnnBase::<f32>::new(Config::new(Mode::Lstm, 2, 3))?;
    /// let x = Tensor::new(&[4, 1, 2], vec![0.5; 8])?; // [T, B, I]
    /// let mut saved = Saved::new();
    /// let result = lstm.forward_train(&x, Options::default(), &mut saved)?;
    /// // The loss is the sum of the squares of the output.
    /// let double = result.output.data().iter().map(|h| 2.0 * h).collect();
    /// let d_output = Tensor::new(result.output.shape(), double)?;
    /// let upstream = Upstream { output: Some((&d_output).into()), ..Upstream::default() };
    /// let gradients = lstm.backward(&x, upstream, &saved)?;
    /// assert_eq!(gradients.input.shape(), [4, 1, 2]);
    /// assert_eq!(gradients.parameters[0].shape(), [12, 2]); // weight_ih_l0
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// Of a sequence in several chunks, begin each with the final state of the one before it, and go back
    /// through each with its own `saved`: truncated back-propagation through time. To go back through all
    /// of it, pass the gradients of a chunk's initial state on as `h_n` and `c_n` of the [`Upstream`] of the chunk before.
    ///
    /// # Errors
    /// As [`forward_with`](Self::forward_with).
    pub fn forward_train<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        options: Options<'a, E>,
        saved: &mut Saved<E>,
    ) -> Result<Output<E>, Error> {
        let x = x.into();
        let mut result = check_input(self.config(), &x, options.packing)?.output(self.config())?;
        let out = OutputMut {
            output: result.output.data_mut(),
            h_n: result.h_n.data_mut(),
            c_n: result.c_n.as_mut().map_or(&mut [], Tensor::data_mut),
        };
        self.forward_train_into(x, options, &mut Workspace::new(), saved, out)?;
        Ok(result)
    }

    /// [`forward_train`](Self::forward_train) into memory of the caller.
    ///
    /// # Errors
    /// As [`forward_into`](Self::forward_into).
    pub fn forward_train_into<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        options: Options<'a, E>,
        workspace: &mut Workspace<E>,
        saved: &mut Saved<E>,
        out: OutputMut<'_, E>,
    ) -> Result<(), Error> {
        if let Some(stack) = self.packed() {
            // As of a layer whose parameters are not trained.
            let done = stack.forward_into(x.into(), options, workspace, Some(saved), out);
            return whole(done, saved);
        }
        let parameters = self.parameter_slices()?;
        self.functional(&parameters).forward_train_into(x, options, workspace, saved, out)
    }

    /// The gradients of everything that entered the forward call `saved` is from, of which `x` was the input.
    ///
    /// # Errors
    /// [`Error::ForeignSaved`] if `saved` is from the call of a layer of another configuration or level; if `x` or an
    /// upstream derivative does not have the shape it had; [`Error::OutOfMemory`]. Not noticed: a layer of the same
    /// configuration with other parameters, or other values in `x`; the gradients are wrong then.
    pub fn backward<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        upstream: Upstream<'a, E>,
        saved: &Saved<E>,
    ) -> Result<Gradients<E>, Error> {
        let x = x.into();
        let call = saved.call_of(self.config(), self.level())?;
        let mut gradients = Gradients::zeros(self.config(), &call.dims)?;
        self.backward_into(x, upstream, saved, &mut Workspace::new(), gradients.as_mut())?;
        Ok(gradients)
    }

    /// [`backward`](Self::backward) of those gradients that are wanted, into memory of the caller. The
    /// bits do not depend on the number of threads.
    ///
    /// # Errors
    /// As [`backward`](Self::backward), and [`Error::Shape`] if the length of a gradient is not right.
    pub fn backward_into<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        upstream: Upstream<'a, E>,
        saved: &Saved<E>,
        workspace: &mut Workspace<E>,
        into: GradientsMut<'_, E>,
    ) -> Result<(), Error> {
        let parameters = self.parameter_slices()?;
        self.functional(&parameters).backward_into(x, upstream, saved, workspace, into)
    }

    /// This layer with its own parameters as the caller's.
    fn functional<'p>(&self, parameters: &'p [&'p [E]]) -> Functional<'p, E> {
        Functional { config: *self.config(), level: self.level(), parameters }
    }
}

/// What a call that failed in the middle has kept is not taken for that of a whole one.
fn whole<E>(done: Result<(), Error>, saved: &mut Saved<E>) -> Result<(), Error> {
    if let Err(Error::OutOfMemory { .. }) = done {
        saved.call = None;
    }
    done
}

impl<E: Element> Functional<'_, E> {
    /// As [`RnnBase::forward_train_into`].
    ///
    /// # Errors
    /// As there.
    pub fn forward_train_into<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        options: Options<'a, E>,
        workspace: &mut Workspace<E>,
        saved: &mut Saved<E>,
        out: OutputMut<'_, E>,
    ) -> Result<(), Error> {
        let (Self { config, level, parameters }, x) = (self, x.into());
        check_input(config, &x, options.packing)?; // before it takes time
        let done = memory::or_error(|| {
            let rows = x.shape().iter().rev().skip(1).product();
            // SAFETY: the parameters are borrowed until this returns, and the stack ends before.
            let stack = unsafe { workspace.training.forward(config, *level, parameters, rows) };
            let done = stack.forward_into(x, options, workspace, Some(saved), out);
            workspace.training.keep(stack);
            done
        });
        whole(done, saved)
    }

    /// As [`RnnBase::backward_into`], of a [forward call](Self::forward_train_into) with these parameters.
    ///
    /// # Errors
    /// As there.
    pub fn backward_into<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        upstream: Upstream<'a, E>,
        saved: &Saved<E>,
        workspace: &mut Workspace<E>,
        into: GradientsMut<'_, E>,
    ) -> Result<(), Error> {
        memory::or_error(|| self.checked_backward(x.into(), upstream, saved, workspace, into))
    }

    fn checked_backward<'a>(
        &self,
        x: View<'a, E>,
        upstream: Upstream<'a, E>,
        saved: &Saved<E>,
        workspace: &mut Workspace<E>,
        mut into: GradientsMut<'_, E>,
    ) -> Result<(), Error> {
        let config = &self.config;
        let call = saved.call_of(config, self.level)?;
        let dims = &call.dims;
        let expected = dims.sequence_shape(config, config.input_size);
        if x.shape() != expected {
            return Err(Error::Shape { tensor: "input", expected, got: x.shape().to_vec() });
        }
        check_upstream(config, call, &upstream)?;
        check_gradients(config, call, &into)?;
        if !into.accumulate {
            into.clear();
        } else if config.bidirectional
            && let Some(to) = into.input.take()
        {
            // Both directions come to zero first: which comes to a row first depends on where spans of steps end.
            let mut sum = core::mem::take(&mut workspace.back.input_sum);
            sum.reserve(to.len());
            sum[..to.len()].fill(E::ZERO);
            let into = GradientsMut { input: Some(&mut sum[..to.len()]), ..into };
            self.back_by_rows(x, upstream, (saved, call), workspace, into);
            to.iter_mut().zip(&sum[..]).for_each(|(to, &sum)| *to = *to + sum);
            workspace.back.input_sum = sum;
            return Ok(());
        }
        self.back_by_rows(x, upstream, (saved, call), workspace, into);
        Ok(())
    }

    /// Runs a checked call, and adds the gradients to what is there.
    fn back_by_rows<'a>(
        &self,
        x: View<'a, E>,
        upstream: Upstream<'a, E>,
        (saved, call): (&Saved<E>, &SavedCall),
        workspace: &mut Workspace<E>,
        into: GradientsMut<'_, E>,
    ) {
        let (config, dims) = (&self.config, &call.dims);
        let (batch, order) = saved.batch(call);
        let rows = dims.rows;
        let state = |view: Option<View<'a, E>>| {
            let batched =
                |view: View<'a, E>| if dims.unbatched() { view.unsqueezed(1) } else { view };
            view.map(|view| RowsIn::new(batched(view), order))
        };
        let sequence = |view: View<'a, E>| sequence_rows(config, dims, &batch, view, order);
        let to_state = |to: Option<_>, size| to.map(|to| state_rows(to, rows, size, order));
        let (p, h) = (config.output_size(), config.hidden_size);
        let layout = sequence_layout(config, dims, &batch, config.input_size, order);
        let job = BackJob {
            batch,
            saved,
            dropout: call.dropout && config.dropout > 0.0,
            input: sequence(x),
            d_output: upstream.output.map(sequence),
            d_h_n: state(upstream.h_n),
            d_c_n: state(upstream.c_n),
            // SAFETY: the length was checked to be that of the input, and `order` is a permutation of the
            // rows.
            d_input: into.input.map(|to| unsafe { RowsOut::new(to, layout, config.input_size) }),
            d_states: [
                to_state(into.h_0, p),
                to_state(into.c_0, h),
                to_state(into.reset_h, p),
                to_state(into.reset_c, h),
            ],
            parameters: matrices(config, into.parameters),
        };
        let Workspace { training, back, .. } = workspace;
        run_back(config, self.level, self.parameters, job, training, back);
    }
}

/// The rows of each parameter's gradient.
fn matrices<'a, E: Element>(
    config: &Config,
    parameters: Vec<Option<&'a mut [E]>>,
) -> Vec<Option<RowsOut<'a, E>>> {
    let rows = |(to, (_, shape)): (Option<&'a mut [E]>, (String, Vec<usize>))| {
        let width = if shape.len() == 2 { shape[1] } else { 1 };
        // SAFETY: the length was checked; rows lie one after the other.
        to.map(|to| unsafe { RowsOut::new(to, Layout::strided(0, width as isize, None), width) })
    };
    let mut matrices = memory::with_capacity(parameters.len());
    matrices.extend(parameters.into_iter().zip(config.parameters()).map(rows));
    matrices
}

/// Checks the shapes of the derivatives to begin with.
fn check_upstream<E: Element>(
    config: &Config,
    call: &SavedCall,
    upstream: &Upstream<'_, E>,
) -> Result<(), Error> {
    let (dims, width) = (&call.dims, config.num_directions() * config.output_size());
    if upstream.c_n.is_some() && !config.mode.has_cell_state() {
        return Err(Error::CellState { expected: false });
    }
    for (tensor, view, expected) in [
        ("gradient of output", &upstream.output, dims.sequence_shape(config, width)),
        ("gradient of h_n", &upstream.h_n, dims.state_shape(config, config.output_size())),
        ("gradient of c_n", &upstream.c_n, dims.state_shape(config, config.hidden_size)),
    ] {
        if let Some(view) = view
            && view.shape() != expected
        {
            return Err(Error::Shape { tensor, expected, got: view.shape().to_vec() });
        }
    }
    Ok(())
}

/// Checks the lengths of the caller's buffers.
fn check_gradients<E: Element>(
    config: &Config,
    call: &SavedCall,
    into: &GradientsMut<'_, E>,
) -> Result<(), Error> {
    if (into.c_0.is_some() || into.reset_c.is_some()) && !config.mode.has_cell_state() {
        return Err(Error::CellState { expected: false });
    }
    let dims = &call.dims;
    let scans = config.num_layers * config.num_directions() * dims.rows;
    let (h, c) = (scans * config.output_size(), scans * config.hidden_size);
    for (tensor, to, expected) in [
        ("gradient of input", &into.input, dims.sequence_rows() * config.input_size),
        ("gradient of h_0", &into.h_0, h),
        ("gradient of c_0", &into.c_0, c),
        ("gradient of the h after resets", &into.reset_h, h),
        ("gradient of the c after resets", &into.reset_c, c),
    ] {
        if let Some(to) = to
            && to.len() != expected
        {
            return Err(Error::Shape { tensor, expected: vec![expected], got: vec![to.len()] });
        }
    }
    let parameters = config.parameters();
    let (expected, got) = (parameters.len(), into.parameters.len());
    if got != 0 && got != expected {
        return Err(Error::ParameterCount { expected, got });
    }
    for ((name, shape), to) in parameters.into_iter().zip(&into.parameters) {
        if let Some(to) = to
            && to.len() != shape.iter().product::<usize>()
        {
            return Err(Error::ParameterShape { name, expected: shape, got: vec![to.len()] });
        }
    }
    Ok(())
}
