//! A stack of recurrent layers of any mode, whose parameters are candle's tensors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Error, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use tidegate::{Config, Generator, StateDict};

use crate::memory::Pool;
use crate::op::{Call, Number, check_dtype, with_slice};

/// A stack of recurrent layers of any [`Mode`](crate::Mode), as PyTorch's `RNNBase`.
///
/// [`Lstm`](crate::Lstm), [`Gru`](crate::Gru) and [`Rnn`](crate::Rnn) are this with their mode fixed. Clones share parameters.
#[derive(Clone, Debug)]
pub struct RnnBase {
    config: Config,
    /// In the order of [`Config::parameters`].
    parameters: Vec<Tensor>,
    core: Core,
}

/// The layer that computes, in the type of the parameters.
#[derive(Clone, Debug)]
enum Core {
    F32(Arc<Packed<f32>>),
    F64(Arc<Packed<f64>>),
}

/// How many layers were made: two must not draw the same masks.
static LAYERS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Packed<E> {
    /// With the values that the parameters had when it was made: those that are variables are passed to every call.
    layer: tidegate::RnnBase<E>,
    pool: Arc<Pool<E>>,
    generator: Mutex<Generator>,
}

/// A state to begin with, or a final one: `h: [D*L, B, P]` and, of an LSTM, `c: [D*L, B, H]`; without `B` where the input has
/// none.
#[derive(Clone, Debug)]
pub struct State {
    /// PyTorch's `h_0` or `h_n`.
    pub h: Tensor,
    /// PyTorch's `c_0` or `c_n`.
    pub c: Option<Tensor>,
}

/// The optional arguments of a call.
#[derive(Copy, Clone, Debug, Default)]
pub struct Options<'a> {
    /// The state to begin with; zeros if none.
    pub state: Option<&'a State>,
    /// The number of steps of each sequence, `[B]`, from 0 to `T`; all `T` if none. The output past a sequence's end is zero.
    pub lengths: Option<&'a [usize]>,
    /// In the layout of the input, `[T, B]` (`[B, T]` if `batch_first`): true where the state is set to zero before the
    /// step.
    pub resets: Option<&'a [bool]>,
    /// Whether to apply dropout between layers.
    pub train: bool,
}

/// The results of a call.
#[derive(Clone, Debug)]
pub struct Output {
    /// `h` of the last layer at every step: `[T, B, D*P]`, in the layout of the input.
    pub output: Tensor,
    /// The final state of every layer and direction.
    pub state: State,
}

impl RnnBase {
    /// A layer with the parameters of `vb` under PyTorch's names (`weight_ih_l0`, ...). Those that `vb` makes are drawn from
    /// PyTorch's distribution, uniform in `±1/sqrt(hidden_size)`, by candle's generator.
    ///
    /// # Errors
    /// If `config` is none PyTorch would accept, a parameter is missing or has another shape, or the type is neither
    /// F32 nor F64.
    #[allow(clippy::needless_pass_by_value, reason = "as all modules of candle take it")]
    pub fn new(config: Config, vb: VarBuilder<'_>) -> Result<Self> {
        config.validate().map_err(Error::wrap)?;
        check_dtype(vb.dtype())?;
        let bound = 1.0 / (config.hidden_size as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let get = |(name, shape): (String, Vec<usize>)| vb.get_with_hints(shape, &name, init);
        let parameters: Vec<Tensor> =
            config.parameters().into_iter().map(get).collect::<Result<_>>()?;
        let core = match vb.dtype() {
            DType::F32 => Core::F32(Packed::new(&config, &parameters)?),
            _ => Core::F64(Packed::new(&config, &parameters)?),
        };
        Ok(Self { config, parameters, core })
    }

    /// The constructor's arguments.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Draws dropout from `seed` on; without this, from a number that is another for each layer of the process and the same
    /// in every run that makes them in the same order.
    pub fn seed_dropout(&self, seed: u64) {
        match &self.core {
            Core::F32(packed) => packed.seed(seed),
            Core::F64(packed) => packed.seed(seed),
        }
    }

    /// Runs the layer over `x: [T, B, I]` (`[B, T, I]` if `batch_first`, `[T, I]` unbatched).
    ///
    /// # Errors
    /// If a tensor has the wrong shape or type, or lies on another device than the CPU.
    pub fn forward_with(&self, x: &Tensor, options: Options<'_>) -> Result<Output> {
        match &self.core {
            Core::F32(packed) => self.run(packed, x, options),
            Core::F64(packed) => self.run(packed, x, options),
        }
    }

    fn run<E: Number>(
        &self,
        packed: &Packed<E>,
        x: &Tensor,
        options: Options<'_>,
    ) -> Result<Output> {
        if x.dtype() != E::DTYPE {
            bail!("expected an input of type {:?}, got {:?}", E::DTYPE, x.dtype());
        }
        let x = x.contiguous()?;
        let tracked = |tensor: &Tensor| tensor.track_op();
        let trains = self.parameters.iter().any(tracked);
        let layer = packed.layer.clone();
        if !trains {
            layer.prepack().map_err(Error::wrap)?;
        }
        let shapes = with_slice::<E, _>(&x, |data| {
            let view = tidegate::View::new(data, x.dims()).map_err(Error::wrap)?;
            let like = layer.empty_output(view).map_err(Error::wrap)?;
            let c_n = like.c_n.map_or(Vec::new(), |c_n| c_n.shape().to_vec());
            Ok([like.output.shape().to_vec(), like.h_n.shape().to_vec(), c_n])
        })?;
        let state = options.state.map(|state| joined(state, &shapes)).transpose()?;
        let call = Call {
            layer,
            trains,
            has_state: state.is_some(),
            lengths: options.lengths.map(<[usize]>::to_vec),
            resets: options.resets.map(<[bool]>::to_vec),
            dropout: options.train.then(|| Mutex::new(packed.next_generator())),
            shapes,
            loan: packed.pool.lend(),
        };
        let shapes = call.shapes.clone();
        let device = x.device();
        let nothing = || Tensor::zeros(1, E::DTYPE, device);
        let state = state.map_or_else(nothing, Ok)?;
        if !trains && !tracked(&x) && !tracked(&state) {
            let results = with_slice::<E, _>(&x, |data| {
                with_slice::<E, _>(&state, |state| call.run(data, x.dims(), state, None))
            })?;
            return split(&Tensor::from_vec(results, shapes_len(&shapes), device)?, &shapes);
        }
        let parameters = match trains {
            true => {
                let flat = self.parameters.iter().map(Tensor::flatten_all);
                Tensor::cat(&flat.collect::<Result<Vec<_>>>()?, 0)?
            }
            false => nothing()?,
        };
        split(&x.apply_op3(&state, &parameters, call)?, &shapes)
    }
}

impl<E: Number> Packed<E> {
    fn new(config: &Config, parameters: &[Tensor]) -> Result<Arc<Self>> {
        let mut dict = StateDict::new();
        for ((name, shape), parameter) in config.parameters().into_iter().zip(parameters) {
            let data = with_slice::<E, _>(parameter, |data| Ok(data.to_vec()))?;
            dict.insert(name, tidegate::Tensor::new(&shape, data).map_err(Error::wrap)?);
        }
        let layer = tidegate::RnnBase::from_state_dict(*config, &dict, "").map_err(Error::wrap)?;
        Ok(Arc::new(Self {
            layer,
            pool: Pool::new(),
            generator: Mutex::new(Generator::manual_seed(LAYERS.fetch_add(1, Ordering::Relaxed))),
        }))
    }

    fn seed(&self, seed: u64) {
        *self.generator.lock().unwrap_or_else(PoisonError::into_inner) =
            Generator::manual_seed(seed);
    }

    /// A generator of its own for one call.
    fn next_generator(&self) -> Generator {
        let mut generator = self.generator.lock().unwrap_or_else(PoisonError::into_inner);
        Generator::manual_seed((generator.uniform::<f64>() * (1u64 << 53) as f64) as u64)
    }
}

/// The states one after the other, checked against the shapes of the results.
fn joined(state: &State, [_, h, c]: &[Vec<usize>; 3]) -> Result<Tensor> {
    let check = |name: &str, got: &Tensor, expected: &[usize]| {
        if got.dims() != expected {
            bail!("Expected {name} size {expected:?}, got {:?}", got.dims());
        }
        got.flatten_all()
    };
    match (&state.c, c.is_empty()) {
        (None, true) => check("h_0", &state.h, h),
        (Some(given), false) => {
            Tensor::cat(&[check("h_0", &state.h, h)?, check("c_0", given, c)?], 0)
        }
        (None, false) => bail!("lstm expects two hidden states, h_0 and c_0, but got h_0 only"),
        (Some(_), true) => bail!("only an LSTM has a cell state: expected h_0, got h_0 and c_0"),
    }
}

fn len(shape: &[usize]) -> usize {
    if shape.is_empty() { 0 } else { shape.iter().product() }
}

fn shapes_len(shapes: &[Vec<usize>; 3]) -> usize {
    shapes.iter().map(|shape| len(shape)).sum()
}

/// Output and states, which lie one after the other in `results`.
fn split(results: &Tensor, [output, h, c]: &[Vec<usize>; 3]) -> Result<Output> {
    let part = |start: usize, shape: &[usize]| results.narrow(0, start, len(shape))?.reshape(shape);
    let (after_output, after_h) = (len(output), len(output) + len(h));
    let c = if c.is_empty() { None } else { Some(part(after_h, c)?) };
    Ok(Output { output: part(0, output)?, state: State { h: part(after_output, h)?, c } })
}
