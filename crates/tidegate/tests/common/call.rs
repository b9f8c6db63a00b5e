//! A random forward call, run by the layers and by the reference.

use super::Number;
use super::sample::{any_config, spec};
use tidegate::{Config, Generator, Mode, Options, Output, RnnBase, State, StateDict, Tensor, View};
use tidegate_reference as reference;
use tidegate_testing::close::{Tolerance, assert_close, assert_same_bits};
use tidegate_testing::random::Random;

/// A random layer with an input, states and lengths.
pub(crate) struct Call<E> {
    pub(crate) name: String,
    pub(crate) layer: RnnBase<E>,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    /// `[T, B, I]`
    pub(crate) x: Vec<E>,
    /// `[D*L, B, P]`
    pub(crate) h_0: Vec<E>,
    /// `[D*L, B, H]`
    pub(crate) c_0: Vec<E>,
    pub(crate) lengths: Option<Vec<usize>>,
}

impl<E: Number> Call<E> {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let config = any_config(&mut random);
        let (mode, hidden_size) = (config.mode, config.hidden_size);
        let (steps, batch) = (random.between(1, 9), random.between(1, 9));
        let scale = 1.0 / (hidden_size as f64).sqrt();
        let dict: StateDict<E> = config
            .parameters()
            .into_iter()
            .map(|(name, shape)| {
                let data = random.vec(shape.iter().product(), -scale, scale);
                (name, Tensor::new(&shape, data).unwrap())
            })
            .collect();
        let scans = config.num_layers * config.num_directions();
        let cells = if mode == Mode::Lstm { hidden_size } else { 0 };
        let ragged = random.flip();
        Self {
            name: format!("seed {seed}: {config}, T {steps}, B {batch}"),
            layer: RnnBase::from_state_dict(config, &dict, "").unwrap(),
            steps,
            batch,
            x: random.vec(steps * batch * config.input_size, -1.5, 1.5),
            h_0: random.vec(scans * batch * config.output_size(), -1.0, 1.0),
            c_0: random.vec(scans * batch * cells, -1.0, 1.0),
            lengths: ragged.then(|| (0..batch).map(|_| random.between(0, steps)).collect()),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        self.layer.config()
    }

    /// `[D*L, B, P]` and `[D*L, B, H]`.
    pub(crate) fn state(&self) -> State<'_, E> {
        let config = self.config();
        let scans = config.num_layers * config.num_directions();
        let c = View::new(&self.c_0, &[scans, self.batch, config.hidden_size]);
        State {
            h: View::new(&self.h_0, &[scans, self.batch, config.output_size()]).unwrap(),
            c: config.mode.has_cell_state().then(|| c.unwrap()),
        }
    }

    pub(crate) fn run(&self, layer: &RnnBase<E>) -> Output<E> {
        let x = View::new(&self.x, &[self.steps, self.batch, self.config().input_size]).unwrap();
        let options = Options {
            state: Some(self.state()),
            lengths: self.lengths.as_deref(),
            ..Options::default()
        };
        layer.forward_with(x, options).unwrap()
    }

    /// The same call by the reference, `masks` being dropout's.
    pub(crate) fn reference(&self, masks: Option<&[f64]>) -> reference::Answer {
        let config = self.config();
        let widen = |data: &[E]| data.iter().map(|v| v.to_f64()).collect::<Vec<f64>>();
        let dict = self.layer.state_dict();
        let parameters = dict.iter().map(|(k, v)| (k.to_string(), widen(v.data()))).collect();
        let (x, h_0, c_0) = (widen(&self.x), widen(&self.h_0), widen(&self.c_0));
        let call = reference::Call {
            steps: self.steps,
            batch: self.batch,
            x: &x,
            h_0: Some(&h_0),
            c_0: (!c_0.is_empty()).then_some(&c_0),
            lengths: self.lengths.as_deref(),
            masks,
            ..reference::Call::default()
        };
        reference::forward(&spec(config), &parameters, &call)
    }

    pub(crate) fn assert_close(
        &self,
        got: &Output<E>,
        want: &reference::Answer,
        tolerance: Tolerance,
    ) {
        let c_n = got.c_n.as_ref().map_or(&[][..], Tensor::data);
        for (name, shape, got, want) in [
            ("output", got.output.shape(), got.output.data(), &want.output),
            ("h_n", got.h_n.shape(), got.h_n.data(), &want.h_n),
            ("c_n", &[c_n.len()][..], c_n, &want.c_n),
        ] {
            assert_close(&self.name, name, shape, got, want, tolerance);
        }
    }
}

/// Sums of up to 36 + 36 products of size about one, through at most 9 steps and 3 layers: a few
/// units in the last place each. Measured: 9e-7 and 2e-15 at most.
pub(crate) fn tolerance<E: Number>() -> Tolerance {
    if size_of::<E>() == 4 { Tolerance::new(3e-6, 3e-6) } else { Tolerance::new(1e-14, 1e-14) }
}

/// A call of the given sizes, to reach every shape of tile.
pub(crate) fn sized<E: Number>(mode: Mode, inputs: usize, hidden: usize, batch: usize) -> Call<E> {
    let mut random = Random::new((inputs * hidden + batch) as u64);
    let config = Config::new(mode, inputs, hidden);
    let mut generator = Generator::manual_seed(7);
    let cells = if mode.has_cell_state() { hidden } else { 0 };
    Call {
        name: format!("{config}, B {batch}"),
        layer: RnnBase::with_generator(config, &mut generator).unwrap(),
        steps: 2,
        batch,
        x: random.vec(2 * batch * inputs, -1.0, 1.0),
        h_0: random.vec(batch * hidden, -1.0, 1.0),
        c_0: random.vec(batch * cells, -1.0, 1.0),
        lengths: None,
    }
}

pub(crate) fn assert_same<E: Number>(name: &str, got: &Output<E>, want: &Output<E>) {
    assert_eq!(got.output.shape(), want.output.shape(), "{name}");
    assert_same_bits(name, "output", got.output.shape(), got.output.data(), want.output.data());
    assert_same_bits(name, "h_n", got.h_n.shape(), got.h_n.data(), want.h_n.data());
    if let (Some(got), Some(want)) = (&got.c_n, &want.c_n) {
        assert_same_bits(name, "c_n", got.shape(), got.data(), want.data());
    }
}
