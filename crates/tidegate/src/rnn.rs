//! A stack of recurrent layers of any mode: parameters and entry points.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tidegate_simd::{Bf16, Level};

use crate::check::check_input;
use crate::crew::Crew;
use crate::generator::with_global;
use crate::stack::Stack;
use crate::{
    Config, Element, Error, Generator, Options, Output, OutputMut, StateDict, Stream, Tensor, View,
    Workspace, memory, params,
};

/// Multiply-adds in the time that a weight takes to be compared with another: 8 MB with 8 MB took 1.5 ms (Ice Lake, neither in a
/// near cache).
const COMPARING: usize = 24;

/// Elements that are compared at once.
const PIECE: usize = 1 << 15;

/// A stack of recurrent layers of any [`Mode`](crate::Mode), as PyTorch's `RNNBase`.
///
/// [`Lstm`](crate::Lstm), [`Gru`](crate::Gru) and [`Rnn`](crate::Rnn) are this with their mode
/// fixed and results typed accordingly; a program that reads any checkpoint uses this directly.
/// Cloning is cheap: clones and streams share one set of weights until one of them loads others.
#[derive(Clone, Debug)]
pub struct RnnBase<E = f32> {
    shared: Arc<Shared<E>>,
}

/// What clones of a layer share.
#[derive(Debug)]
struct Shared<E> {
    config: Config,
    level: Level,
    /// Whether weights are kept as bf16.
    half: bool,
    /// In the order of [`Config::parameters`].
    parameters: Vec<Tensor<E>>,
    /// The same as inference reads them, packed when first wanted.
    stack: OnceLock<Arc<Stack<E>>>,
    /// Memory for them that nobody else has, with parameters from before.
    before: Mutex<Option<Stack<E>>>,
}

impl<E: Element> Shared<E> {
    /// Rounds the weights to bf16 if `half`.
    fn new(config: Config, level: Level, half: bool, mut parameters: Vec<Tensor<E>>) -> Arc<Self> {
        if half {
            round(&mut parameters);
        }
        let (stack, before) = (OnceLock::new(), Mutex::new(None));
        Arc::new(Self { config, level, half, parameters, stack, before })
    }

    /// The parameters as inference reads them. Only inside of [`memory::or_error`].
    fn stack(&self) -> &Arc<Stack<E>> {
        self.stack.get_or_init(|| {
            let Self { config, level, half, .. } = *self;
            let parameters = slices(&self.parameters);
            let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
            Arc::new(match before {
                Some(mut stack) => {
                    stack.set(&parameters);
                    stack
                }
                None => Stack::packed(config, level, half, &parameters),
            })
        })
    }

    /// Forgets what was packed, as the parameters have changed.
    fn repack(&mut self) {
        if let Some(stack) = self.stack.take() {
            let before = self.before.get_mut().unwrap_or_else(PoisonError::into_inner);
            *before = Arc::into_inner(stack);
        }
    }
}

/// The elements of `parameters`. Only inside of [`memory::or_error`].
fn slices<E: Element>(parameters: &[Tensor<E>]) -> Vec<&[E]> {
    let mut slices = memory::with_capacity(parameters.len());
    slices.extend(parameters.iter().map(Tensor::data));
    slices
}

/// Rounds weights, not biases, to bf16.
fn round<E: Element>(parameters: &mut [Tensor<E>]) {
    for weight in parameters.iter_mut().filter(|p| p.shape().len() == 2) {
        for w in weight.data_mut() {
            *w = E::from_f64(f64::from(Bf16::from_f32(w.to_f64() as f32).to_f32()));
        }
    }
}

impl RnnBase<f32> {
    /// The same layer with its weight matrices rounded to bf16 (to nearest, ties to even) and kept so:
    /// half the memory to read at every step, which is the time of a step of one row where the
    /// weights exceed the caches. Biases, states and all arithmetic stay f32.
    ///
    /// The results have the bits of a layer whose weights were rounded and kept as f32, which is also
    /// what [`state_dict`](Self::state_dict) returns. How far they are from the unrounded layer's
    /// depends on the weights: each is off by up to 2^-9 of itself.
    #[must_use]
    pub fn with_bf16_weights(&self) -> Self {
        let Shared { config, level, ref parameters, .. } = *self.shared;
        Self { shared: Shared::new(config, level, true, parameters.clone()) }
    }
}

impl<E: Element> RnnBase<E> {
    /// A layer with parameters drawn as PyTorch draws them, from the process's generator
    /// ([`manual_seed`](crate::manual_seed)).
    ///
    /// # Errors
    /// As [`Config::validate`]; [`Error::OutOfMemory`].
    pub fn new(config: Config) -> Result<Self, Error> {
        with_global(|generator| Self::with_generator(config, generator))
    }

    /// A layer with parameters drawn from `generator`.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn with_generator(config: Config, generator: &mut Generator) -> Result<Self, Error> {
        config.validate()?;
        let parameters = params::initial(&config, generator)?;
        Ok(Self { shared: Shared::new(config, Level::best(), false, parameters) })
    }

    /// A layer with the parameters that `dict` holds under `prefix` (`"encoder."`, or `""`).
    ///
    /// # Errors
    /// As [`Config::validate`]; a parameter that is missing, has another shape, or a tensor under
    /// the prefix that is none of the layer's parameters: the error names it.
    pub fn from_state_dict(
        config: Config,
        dict: &StateDict<E>,
        prefix: &str,
    ) -> Result<Self, Error> {
        Self::from_renamed(config, dict, prefix, str::to_string)
    }

    /// As [`from_state_dict`](Self::from_state_dict), for names that `rename` turns into the
    /// dict's.
    pub(crate) fn from_renamed(
        config: Config,
        dict: &StateDict<E>,
        prefix: &str,
        rename: impl Fn(&str) -> String,
    ) -> Result<Self, Error> {
        config.validate()?;
        let parameters = params::from_dict(&config, dict, prefix, rename)?;
        Ok(Self { shared: Shared::new(config, Level::best(), false, parameters) })
    }

    /// Replaces all parameters by those that `dict` holds under `prefix`.
    ///
    /// Clones and streams made before keep the parameters they have.
    ///
    /// # Errors
    /// As [`from_state_dict`](Self::from_state_dict); the layer is unchanged then.
    pub fn load_state_dict(&mut self, dict: &StateDict<E>, prefix: &str) -> Result<(), Error> {
        let Shared { config, level, half, .. } = *self.shared;
        let parameters = params::from_dict(&config, dict, prefix, str::to_string)?;
        self.shared = Shared::new(config, level, half, parameters);
        Ok(())
    }

    /// Lets `update` change the parameters, in the order of [`Config::parameters`], as an optimiser does. Clones and streams made
    /// before keep the old ones.
    ///
    /// ```
    /// # use tidegate::{Config, Mode, RnnBase};
    /// # let mut gru = RnnBase::<f32>::new(Config::new(Mode::Gru, 2, 3))?;
    /// # let gradients: Vec<_> = gru.named_parameters().map(|(_, p)| p.clone()).collect();
    /// gru.update_parameters(|parameters| {
    ///     for (parameter, gradient) in parameters.iter_mut().zip(&gradients) {
    ///         for (p, g) in parameter.data_mut().iter_mut().zip(gradient.data()) {
    ///             *p -= 0.1 * g;
    ///         }
    ///     }
    /// });
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Panics
    /// If a parameter is replaced by one of another shape; the layer cannot be used then.
    pub fn update_parameters(&mut self, update: impl FnOnce(&mut [Tensor<E>])) {
        let Shared { config, level, half, .. } = *self.shared;
        let check = |parameters: &[Tensor<E>]| {
            for (parameter, (name, shape)) in parameters.iter().zip(config.parameters()) {
                assert_eq!(parameter.shape(), shape, "{name} must keep its shape");
            }
        };
        let Some(shared) = Arc::get_mut(&mut self.shared) else {
            let mut parameters = self.shared.parameters.clone();
            update(&mut parameters);
            check(&parameters);
            self.shared = Shared::new(config, level, half, parameters);
            return;
        };
        // First, as `update` may panic in the middle.
        shared.repack();
        update(&mut shared.parameters);
        check(&shared.parameters);
        if half {
            round(&mut shared.parameters);
        }
    }

    /// Packs the parameters for inference now rather than in the first call that wants it, which takes that much longer: 0.3 to
    /// 1 ms for a million weights.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn prepack(&self) -> Result<(), Error> {
        self.stack_or_error().map(drop)
    }

    /// The parameters as inference reads them.
    fn stack_or_error(&self) -> Result<&Arc<Stack<E>>, Error> {
        memory::or_error(|| Ok(self.shared.stack()))
    }

    /// The same layer computed with the instructions of `level`; the results have the same bits.
    #[must_use]
    pub fn at_level(&self, level: Level) -> Self {
        let Shared { config, half, ref parameters, .. } = *self.shared;
        Self { shared: Shared::new(config, level, half, parameters.clone()) }
    }

    /// The instruction set the layer computes with.
    pub fn level(&self) -> Level {
        self.shared.level
    }

    /// The constructor's arguments.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Names and values of the parameters, in PyTorch's order.
    pub fn named_parameters(&self) -> impl Iterator<Item = (String, &Tensor<E>)> {
        let names = self.shared.config.parameters().into_iter().map(|(name, _)| name);
        names.zip(&self.shared.parameters)
    }

    /// The parameters, in the order of [`Config::parameters`].
    pub fn parameters(&self) -> &[Tensor<E>] {
        &self.shared.parameters
    }

    /// Whether the parameters are these bit for bit, in the order of [`Config::parameters`], row by row as PyTorch has them.
    ///
    /// Large ones are compared on several threads.
    pub fn has_parameters(&self, parameters: &[&[E]]) -> bool {
        let own = self.parameters().iter().map(Tensor::data);
        if !own.clone().map(<[E]>::len).eq(parameters.iter().map(|given| given.len())) {
            return false;
        }
        let pieces = |data: &'_ [E]| data.len().div_ceil(PIECE);
        let mut list = Vec::with_capacity(own.clone().map(pieces).sum());
        for (own, given) in own.zip(parameters) {
            list.extend(own.chunks(PIECE).zip(given.chunks(PIECE)));
        }
        let weights: usize = parameters.iter().map(|given| given.len()).sum();
        let same = AtomicBool::new(true);
        Crew::of_call(weights.saturating_mul(COMPARING)).for_each(&mut list, |_, (own, given)| {
            // As bytes: a NaN is the same as itself, and zeros of two signs are not.
            let [own, given] = [own, given].map(|data| bytemuck::cast_slice::<E, u8>(data));
            if same.load(Ordering::Relaxed) && own != given {
                same.store(false, Ordering::Relaxed);
            }
        });
        same.into_inner()
    }

    /// A copy of the parameters under PyTorch's names.
    pub fn state_dict(&self) -> StateDict<E> {
        self.named_parameters().map(|(name, tensor)| (name, tensor.clone())).collect()
    }

    /// Runs the layer over `x: [T, B, I]` (`[B, T, I]` if `batch_first`, `[T, I]` unbatched).
    ///
    /// Returns `output: [T, B, D*P]` in the order of `x`, and the final states `[D*L, B, P]`
    /// (`P` the output size) and `[D*L, B, H]`, never batch first.
    ///
    /// # Errors
    /// If `x`, a state or the lengths have the wrong shape; the message says which. [`Error::OutOfMemory`].
    pub fn forward_with<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        options: Options<'a, E>,
    ) -> Result<Output<E>, Error> {
        let x = x.into();
        let dims = check_input(self.config(), &x, options.packing)?;
        let mut result = dims.output(self.config())?;
        let out = OutputMut {
            output: result.output.data_mut(),
            h_n: result.h_n.data_mut(),
            c_n: result.c_n.as_mut().map_or(&mut [], Tensor::data_mut),
        };
        self.forward_into(x, options, &mut Workspace::new(), out)?;
        Ok(result)
    }

    /// [`forward_with`](Self::forward_with) into memory of the caller; with a workspace that has been used
    /// for the same shapes before, nothing is allocated, but for a layer's first call, which packs its weights
    /// ([`prepack`](Self::prepack)), and its first with a single row, which lays them out anew.
    ///
    /// # Errors
    /// As [`forward_with`](Self::forward_with), and [`Error::Shape`] if a result's length is not right.
    pub fn forward_into<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        options: Options<'a, E>,
        workspace: &mut Workspace<E>,
        out: OutputMut<'_, E>,
    ) -> Result<(), Error> {
        self.stack_or_error()?.forward_into(x.into(), options, workspace, None, out)
    }

    /// The shapes of the results of [`forward_with`](Self::forward_with) for `x`, as zeros.
    ///
    /// # Errors
    /// As [`forward_with`](Self::forward_with), for what concerns `x` alone.
    pub fn empty_output<'a>(&self, x: impl Into<View<'a, E>>) -> Result<Output<E>, Error> {
        check_input(self.config(), &x.into(), None)?.output(self.config())
    }

    /// A stream of `batch` sequences from zero states: one step or chunk per call.
    ///
    /// # Errors
    /// [`Error::BidirectionalStream`]: a reverse direction needs the whole sequence first.
    pub fn stream(&self, batch: usize) -> Result<Stream<E>, Error> {
        Stream::new(Arc::clone(self.stack_or_error()?), batch)
    }

    /// The parameters as inference reads them, if they are packed.
    pub(crate) fn packed(&self) -> Option<&Stack<E>> {
        self.shared.stack.get().map(|stack| &**stack)
    }

    /// The parameters' elements.
    pub(crate) fn parameter_slices(&self) -> Result<Vec<&[E]>, Error> {
        memory::or_error(|| Ok(slices(&self.shared.parameters)))
    }

    #[cfg(test)]
    pub(crate) fn stack(&self) -> &Stack<E> {
        self.shared.stack()
    }
}
