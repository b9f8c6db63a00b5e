//! A call as a node of candle's graph.

use std::sync::{Mutex, PoisonError};

use candle_core::{
    CpuStorage, CustomOp3, DType, Error, Layout, Result, Shape, Storage, Tensor, WithDType, bail,
};
use tidegate::{
    Element, Functional, Generator, GradientsMut, Options, OutputMut, Resets, RnnBase, State,
    Upstream, View,
};

use crate::memory::Loan;

/// Numbers that both libraries know.
pub(crate) trait Number: Element + WithDType {}
impl<E: Element + WithDType> Number for E {}

/// A forward call with all that candle's tensors do not hold.
///
/// As an operation its arguments are the input, the initial states one after the other and the parameters likewise (of
/// the last two a single number, if there are none or no gradients of them are wanted), and its result
/// is output, `h_n` and `c_n` one after the other.
pub(crate) struct Call<E: Number> {
    pub(crate) layer: RnnBase<E>,
    /// Whether the parameters are the operation's rather than the layer's.
    pub(crate) trains: bool,
    pub(crate) has_state: bool,
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) resets: Option<Vec<bool>>,
    /// The generator of dropout as the call found it, in training.
    pub(crate) dropout: Option<Mutex<Generator>>,
    /// The shapes of the results; of `c_n` empty if there is none.
    pub(crate) shapes: [Vec<usize>; 3],
    pub(crate) loan: Loan<E>,
}

fn count(shape: &[usize]) -> usize {
    if shape.is_empty() { 0 } else { shape.iter().product() }
}

/// The elements of a contiguous tensor on the CPU.
fn slice<'a, E: Number>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [E]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&E::cpu_storage_as_slice(storage)?[start..end]),
        None => bail!("tidegate expects contiguous tensors, got strides {:?}", layout.stride()),
    }
}

/// Calls `f` with the elements of `tensor`.
pub(crate) fn with_slice<E: Number, T>(
    tensor: &Tensor,
    f: impl FnOnce(&[E]) -> Result<T>,
) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => bail!("tidegate computes on the CPU, got a tensor on {:?}", tensor.device()),
    }
}

impl<E: Number> Call<E> {
    /// The results one after the other; `state` holds the initial ones likewise. Keeps what backward needs if the operation's
    /// `parameters` are given.
    pub(crate) fn run(
        &self,
        x: &[E],
        x_dims: &[usize],
        state: &[E],
        parameters: Option<&[E]>,
    ) -> Result<Vec<E>> {
        let [output, h, c] = self.shapes.each_ref().map(|shape| count(shape));
        let mut results = vec![E::ZERO; output + h + c];
        let (to_output, rest) = results.split_at_mut(output);
        let (h_n, c_n) = rest.split_at_mut(h);
        let x = View::new(x, x_dims).map_err(Error::wrap)?;
        let state = if self.has_state { Some(self.state(state)?) } else { None };
        let mut generator =
            self.dropout.as_ref().map(|g| g.lock().unwrap_or_else(PoisonError::into_inner));
        let options = Options {
            state,
            lengths: self.lengths.as_deref(),
            resets: self.resets.as_ref().map(|before| Resets { before, state: None }),
            dropout: generator.as_deref_mut(),
            ..Options::default()
        };
        let out = OutputMut { output: to_output, h_n, c_n };
        let done = self.loan.with(|workspace, saved| match parameters {
            Some(parameters) if self.trains => {
                let parameters = self.apart(parameters);
                let layer = Functional::new(*self.layer.config(), &parameters)?;
                layer.forward_train_into(x, options, workspace, saved, out)
            }
            Some(_) => self.layer.forward_train_into(x, options, workspace, saved, out),
            None => self.layer.forward_into(x, options, workspace, out),
        });
        done.map_err(Error::wrap)?;
        Ok(results)
    }

    /// The states that lie one after the other in `state`.
    fn state<'a>(&self, state: &'a [E]) -> Result<State<'a, E>> {
        let [_, h, c] = &self.shapes;
        let (of_h, of_c) = state.split_at(count(h));
        let c = match c.is_empty() {
            true => None,
            false => Some(View::new(of_c, c).map_err(Error::wrap)?),
        };
        Ok(State { h: View::new(of_h, h).map_err(Error::wrap)?, c })
    }

    /// Each of the parameters that lie one after the other.
    fn apart<'a>(&self, parameters: &'a [E]) -> Vec<&'a [E]> {
        let mut rest = parameters;
        let own = self.layer.parameters().iter().map(tidegate::Tensor::data);
        own.map(|own| rest.split_off(..own.len()).unwrap_or_default()).collect()
    }

    /// The derivatives by input, states and parameters, those that are wanted, from those by the results.
    fn go_back(
        &self,
        x: &[E],
        x_dims: &[usize],
        parameters: &[E],
        d_results: &[E],
        wanted: [bool; 3],
    ) -> Result<[Option<Vec<E>>; 3]> {
        let [output, h, c] = &self.shapes;
        let (d_output, rest) = d_results.split_at(count(output));
        let (d_h_n, d_c_n) = rest.split_at(count(h));
        let view = |data, shape: &[usize]| View::new(data, shape).map_err(Error::wrap);
        let upstream = Upstream {
            output: Some(view(d_output, output)?),
            h_n: Some(view(d_h_n, h)?),
            c_n: if c.is_empty() { None } else { Some(view(d_c_n, c)?) },
        };
        let own: usize = self.layer.parameters().iter().map(|own| own.data().len()).sum();
        let sizes = [x.len(), count(h) + count(c), own];
        let mut gradients = [0, 1, 2].map(|k| wanted[k].then(|| vec![E::ZERO; sizes[k]]));
        let [d_x, d_state, d_parameters] = &mut gradients;
        let mut into = GradientsMut { input: d_x.as_deref_mut(), ..GradientsMut::default() };
        if let Some(d_state) = d_state {
            let (d_h_0, d_c_0) = d_state.split_at_mut(count(h));
            into.h_0 = Some(d_h_0);
            into.c_0 = (!c.is_empty()).then_some(d_c_0);
        }
        if let Some(mut rest) = d_parameters.as_deref_mut() {
            for own in self.layer.parameters() {
                let (gradient, after) = rest.split_at_mut(own.data().len());
                into.parameters.push(Some(gradient));
                rest = after;
            }
        }
        let x = View::new(x, x_dims).map_err(Error::wrap)?;
        let done = self.loan.with(|workspace, saved| match self.trains {
            true => {
                let parameters = self.apart(parameters);
                let layer = Functional::new(*self.layer.config(), &parameters)?;
                layer.backward_into(x, upstream, saved, workspace, into)
            }
            false => self.layer.backward_into(x, upstream, saved, workspace, into),
        });
        done.map_err(Error::wrap)?;
        Ok(gradients)
    }
}

impl<E: Number> CustomOp3 for Call<E> {
    fn name(&self) -> &'static str {
        "tidegate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        state: &CpuStorage,
        state_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, state) = (slice(x, x_layout)?, slice(state, state_layout)?);
        let parameters = slice(parameters, parameters_layout)?;
        let results = self.run(x, x_layout.dims(), state, Some(parameters))?;
        let shape = Shape::from(results.len());
        Ok((E::to_cpu_storage_owned(results), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        state: &Tensor,
        parameters: &Tensor,
        _: &Tensor,
        d_results: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let wanted = [x.track_op(), self.has_state && state.track_op(), parameters.track_op()];
        let gradients = with_slice::<E, _>(x, |x_data| {
            with_slice::<E, _>(d_results, |d_results| {
                with_slice::<E, _>(parameters, |parameters| {
                    self.go_back(x_data, x.dims(), parameters, d_results, wanted)
                })
            })
        })?;
        let tensor = |data: Option<Vec<E>>, like: &Tensor| {
            data.map(|data| Tensor::from_vec(data, like.shape(), like.device())).transpose()
        };
        let [d_x, d_state, d_parameters] = gradients;
        Ok((tensor(d_x, x)?, tensor(d_state, state)?, tensor(d_parameters, parameters)?))
    }
}

/// Whether `dtype` can be computed with.
pub(crate) fn check_dtype(dtype: DType) -> Result<()> {
    match dtype {
        DType::F32 | DType::F64 => Ok(()),
        _ => bail!("tidegate computes in F32 and F64, got {dtype:?}"),
    }
}
