//! A call with everything that a call can have, run by the layers and by the reference.

use core::cmp::Reverse;

use super::{Number, view};
use tidegate::{
    Config, Error, Functional, Generator, GradientsMut, Level, Mode, Options, Output, OutputMut,
    Resets, RnnBase, Saved, State, StateDict, Tensor, Upstream, Workspace,
};
use tidegate_reference as reference;
use tidegate_testing::random::Random;
use tidegate_testing::sizes::SMALL_SIZES;

/// A random call of a random layer, `[T, B, *]` throughout, and the derivatives of a loss by its results.
pub(crate) struct Sample<E> {
    pub(crate) name: String,
    pub(crate) layer: RnnBase<E>,
    pub(crate) seed: u64,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) x: Tensor<E>,
    pub(crate) h_0: Tensor<E>,
    pub(crate) c_0: Option<Tensor<E>>,
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) resets: Option<Vec<bool>>,
    pub(crate) reset_h: Tensor<E>,
    pub(crate) reset_c: Option<Tensor<E>>,
    /// Whether the reset state is given.
    pub(crate) resets_to: bool,
    pub(crate) trains: bool,
    pub(crate) d_output: Option<Tensor<E>>,
    pub(crate) d_h_n: Option<Tensor<E>>,
    pub(crate) d_c_n: Option<Tensor<E>>,
}

fn tensor<E: Number>(random: &mut Random, shape: &[usize], scale: f64) -> Tensor<E> {
    Tensor::new(shape, random.vec(shape.iter().product(), -scale, scale)).unwrap()
}

impl<E: Number> Sample<E> {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let config = Config { dropout: 0.3, ..any_config(&mut random) };
        // Now and then more rows than a chunk has.
        let (steps, batch) = match random.between(0, 9) {
            0 => (random.between(20, 60), random.between(5, 12)),
            _ => (random.between(1, 9), random.between(1, 9)),
        };
        Self::with(config, steps, batch, seed)
    }

    pub(crate) fn with(config: Config, steps: usize, batch: usize, seed: u64) -> Self {
        let random = &mut Random::new(seed + 1_000_000);
        let scale = 1.0 / (config.hidden_size as f64).sqrt();
        let parameters = config.parameters().into_iter();
        let dict: StateDict<E> =
            parameters.map(|(name, shape)| (name, tensor(random, &shape, scale))).collect();
        let (width, hidden) = (config.output_size(), config.hidden_size);
        let scans = config.num_layers * config.num_directions();
        let cells = config.mode.has_cell_state();
        let h = |random: &mut Random| tensor(random, &[scans, batch, width], 1.0);
        let c = |random: &mut Random| cells.then(|| tensor(random, &[scans, batch, hidden], 1.0));
        let shape = [steps, batch, config.num_directions() * width];
        Self {
            name: format!("seed {seed}: {config}, T {steps}, B {batch}"),
            layer: RnnBase::from_state_dict(config, &dict, "").unwrap(),
            seed,
            steps,
            batch,
            x: tensor(random, &[steps, batch, config.input_size], 1.5),
            h_0: h(random),
            c_0: c(random),
            lengths: random.flip().then(|| (0..batch).map(|_| random.between(0, steps)).collect()),
            resets: random
                .flip()
                .then(|| (0..steps * batch).map(|_| random.between(0, 3) == 0).collect()),
            reset_h: h(random),
            reset_c: c(random),
            resets_to: random.flip(),
            trains: random.flip(),
            d_output: random.flip().then(|| tensor(random, &shape, 1.0)),
            d_h_n: random.flip().then(|| h(random)),
            d_c_n: if random.flip() { c(random) } else { None },
        }
    }

    pub(crate) fn config(&self) -> &Config {
        self.layer.config()
    }

    pub(crate) fn options<'a>(&'a self, generator: &'a mut Generator) -> Options<'a, E> {
        let reset_state = State::from_tensors(&self.reset_h, self.reset_c.as_ref());
        let state = self.resets_to.then_some(reset_state);
        Options {
            state: Some(State::from_tensors(&self.h_0, self.c_0.as_ref())),
            lengths: self.lengths.as_deref(),
            resets: self.resets.as_ref().map(|before| Resets { before, state }),
            dropout: self.trains.then_some(generator),
            ..Options::default()
        }
    }

    /// The parameters' elements.
    fn parameters(&self) -> Vec<&[E]> {
        self.layer.parameters().iter().map(Tensor::data).collect()
    }

    /// The call with the parameters as the caller's.
    pub(crate) fn functional(
        &self,
        level: Level,
        workspace: &mut Workspace<E>,
    ) -> Result<Output<E>, Error> {
        let parameters = self.parameters();
        let mut got = self.layer.empty_output(&self.x)?;
        let out = OutputMut {
            output: got.output.data_mut(),
            h_n: got.h_n.data_mut(),
            c_n: got.c_n.as_mut().map_or(&mut [], Tensor::data_mut),
        };
        let mut generator = Generator::manual_seed(self.seed);
        let options = self.options(&mut generator);
        let layer = Functional::new(*self.config(), &parameters)?.at_level(level);
        layer.forward_into(&self.x, options, workspace, out)?;
        Ok(got)
    }

    /// What [`functional`](Self::functional) is to give.
    pub(crate) fn infer(&self) -> Output<E> {
        let mut generator = Generator::manual_seed(self.seed);
        self.layer.forward_with(&self.x, self.options(&mut generator)).unwrap()
    }

    pub(crate) fn upstream(&self) -> Upstream<'_, E> {
        Upstream { output: view(&self.d_output), h_n: view(&self.d_h_n), c_n: view(&self.d_c_n) }
    }

    /// Runs the call, and all gradients by name.
    pub(crate) fn run(&self, layer: &RnnBase<E>) -> (Output<E>, Vec<(String, Tensor<E>)>) {
        self.run_with(layer, &mut Saved::new())
    }

    pub(crate) fn run_with(
        &self,
        layer: &RnnBase<E>,
        saved: &mut Saved<E>,
    ) -> (Output<E>, Vec<(String, Tensor<E>)>) {
        let mut generator = Generator::manual_seed(self.seed);
        let result = layer.forward_train(&self.x, self.options(&mut generator), saved).unwrap();
        let gradients = layer.backward(&self.x, self.upstream(), saved).unwrap();
        let mut list = vec![
            ("x".to_string(), gradients.input),
            ("h_0".to_string(), gradients.h_0),
            ("reset_h".to_string(), gradients.reset_h),
        ];
        list.extend(gradients.c_0.map(|c| ("c_0".to_string(), c)));
        list.extend(gradients.reset_c.map(|c| ("reset_c".to_string(), c)));
        let names = self.config().parameters().into_iter().map(|(name, _)| name);
        list.extend(names.zip(gradients.parameters));
        (result, list)
    }

    /// The same with the parameters as the caller's, in `workspace`; without the gradient of the input unless it is `wanted`.
    pub(crate) fn functional_run(
        &self,
        level: Level,
        (workspace, saved): (&mut Workspace<E>, &mut Saved<E>),
        wanted: bool,
    ) -> (Output<E>, Vec<(String, Tensor<E>)>) {
        let parameters = self.parameters();
        let layer = Functional::new(*self.config(), &parameters).unwrap().at_level(level);
        let mut result = self.layer.empty_output(&self.x).unwrap();
        let out = OutputMut {
            output: result.output.data_mut(),
            h_n: result.h_n.data_mut(),
            c_n: result.c_n.as_mut().map_or(&mut [], Tensor::data_mut),
        };
        let mut generator = Generator::manual_seed(self.seed);
        let options = self.options(&mut generator);
        layer.forward_train_into(&self.x, options, workspace, saved, out).unwrap();
        let shape = |shape: &[usize]| {
            let sevens = vec![E::from_f64(7.0); shape.iter().product()];
            Tensor::new(shape, sevens).unwrap()
        };
        let like = |state: &Tensor<E>| shape(state.shape());
        let (mut x, [mut h_0, mut reset_h]) = (like(&self.x), [like(&self.h_0), like(&self.h_0)]);
        let [mut c_0, mut reset_c] = [(); 2].map(|()| self.c_0.as_ref().map(like));
        let of = self.config().parameters();
        let mut own: Vec<_> = of.iter().map(|(_, of)| shape(of)).collect();
        let into = GradientsMut {
            input: wanted.then(|| x.data_mut()),
            h_0: Some(h_0.data_mut()),
            c_0: c_0.as_mut().map(Tensor::data_mut),
            reset_h: Some(reset_h.data_mut()),
            reset_c: reset_c.as_mut().map(Tensor::data_mut),
            parameters: own.iter_mut().map(|own| Some(own.data_mut())).collect(),
            accumulate: false,
        };
        let upstream = self.upstream();
        layer.backward_into(&self.x, upstream, saved, workspace, into).unwrap();
        let mut list = Vec::from_iter(wanted.then(|| ("x".to_string(), x)));
        list.extend([("h_0".to_string(), h_0), ("reset_h".to_string(), reset_h)]);
        list.extend(c_0.map(|c| ("c_0".to_string(), c)));
        list.extend(reset_c.map(|c| ("reset_c".to_string(), c)));
        list.extend(of.into_iter().map(|(name, _)| name).zip(own));
        (result, list)
    }

    /// Dropout's masks as the reference has them, `[L-1, T, B, D*P]`: they are drawn layer by layer for the
    /// rows that exist, of each step the longest sequence first.
    fn masks(&self) -> Option<Vec<f64>> {
        let config = self.config();
        if !self.trains || config.num_layers < 2 {
            return None;
        }
        let width = config.num_directions() * config.output_size();
        let length = |b: usize| self.lengths.as_ref().map_or(self.steps, |lengths| lengths[b]);
        let mut order: Vec<usize> = (0..self.batch).collect();
        if (0..self.batch).any(|b| length(b) < self.steps) {
            order.sort_by_key(|&b| Reverse(length(b)));
        }
        let mut generator = Generator::manual_seed(self.seed);
        let mut masks = vec![0.0; (config.num_layers - 1) * self.steps * self.batch * width];
        for layer in masks.chunks_exact_mut(self.steps * self.batch * width) {
            for (t, step) in layer.chunks_exact_mut(self.batch * width).enumerate() {
                for &b in order.iter().filter(|&&b| length(b) > t) {
                    step[b * width..(b + 1) * width].fill_with(|| {
                        if generator.uniform::<f64>() < config.dropout {
                            0.0
                        } else {
                            E::from_f64(1.0 / (1.0 - config.dropout)).to_f64()
                        }
                    });
                }
            }
        }
        Some(masks)
    }

    /// The same call by the reference.
    fn reference(&self) -> (reference::Answer, reference::Gradients) {
        let config = self.config();
        let spec = spec(config);
        let widen = |t: &Tensor<E>| t.data().iter().map(|v| v.to_f64()).collect::<Vec<f64>>();
        let some = |t: &Option<Tensor<E>>| t.as_ref().map(widen);
        let dict = self.layer.state_dict();
        let parameters = dict.iter().map(|(k, v)| (k.to_string(), widen(v))).collect();
        let (x, h_0, c_0) = (widen(&self.x), widen(&self.h_0), some(&self.c_0));
        let (reset_h, reset_c) = (widen(&self.reset_h), some(&self.reset_c));
        let masks = self.masks();
        let call = reference::Call {
            steps: self.steps,
            batch: self.batch,
            x: &x,
            h_0: Some(&h_0),
            c_0: c_0.as_deref(),
            lengths: self.lengths.as_deref(),
            resets: self.resets.as_deref(),
            reset_h: self.resets_to.then_some(&reset_h[..]),
            reset_c: reset_c.as_deref().filter(|_| self.resets_to),
            masks: masks.as_deref(),
        };
        let (d_output, d_h_n, d_c_n) = (some(&self.d_output), some(&self.d_h_n), some(&self.d_c_n));
        let upstream = reference::Upstream {
            output: d_output.as_deref(),
            h_n: d_h_n.as_deref(),
            c_n: d_c_n.as_deref(),
        };
        let answer = reference::forward(&spec, &parameters, &call);
        (answer, reference::backward(&spec, &parameters, &call, &upstream))
    }
    /// Runs the call both ways; how far the results and gradients are off, of the larger of 1 and the largest
    /// entry of each.
    ///
    /// # Panics
    /// If one is off by more than `tolerance`, or not finite.
    pub(crate) fn compare(&self, tolerance: f64) -> f64 {
        let (output, gradients) = self.run(&self.layer);
        let (answer, want) = self.reference();
        let mut results = vec![("output", &output.output, &answer.output)];
        results.push(("h_n", &output.h_n, &answer.h_n));
        results.extend(output.c_n.as_ref().map(|c_n| ("c_n", c_n, &answer.c_n)));
        results.extend(gradients.iter().map(|(name, got)| {
            let want = match &name[..] {
                "x" => &want.x,
                "h_0" => &want.h_0,
                "c_0" => &want.c_0,
                "reset_h" => &want.reset_h,
                "reset_c" => &want.reset_c,
                name => &want.parameters[name],
            };
            (&name[..], got, want)
        }));
        let mut worst: f64 = 0.0;
        for (name, got, want) in results {
            let largest = want.iter().fold(1.0, |most: f64, d| most.max(d.abs()));
            assert_eq!(got.data().len(), want.len(), "{}: {name}", self.name);
            for (k, (got, want)) in got.data().iter().zip(want).enumerate() {
                let off = (got.to_f64() - want).abs() / largest;
                assert!(
                    off <= tolerance,
                    "{}: {name}[{k}] is {got}, wanted {want}; off by {off:e} of {largest}",
                    self.name
                );
                worst = worst.max(off);
            }
        }
        worst
    }
}

/// A small layer of any kind, without dropout.
pub(crate) fn any_config(random: &mut Random) -> Config {
    let mode = *random.pick(&Mode::ALL);
    let hidden_size = *random.pick(&SMALL_SIZES);
    let projected = mode == Mode::Lstm && hidden_size > 1 && random.between(0, 3) == 0;
    Config {
        num_layers: random.between(1, 3),
        bias: random.between(0, 4) > 0,
        bidirectional: random.flip(),
        proj_size: if projected { random.between(1, hidden_size - 1) } else { 0 },
        ..Config::new(mode, *random.pick(&SMALL_SIZES), hidden_size)
    }
}

/// The reference's name for the same layer.
pub(crate) fn spec(config: &Config) -> reference::Spec {
    reference::Spec {
        mode: match config.mode {
            Mode::Lstm => reference::Mode::Lstm,
            Mode::Gru => reference::Mode::Gru,
            Mode::RnnTanh => reference::Mode::RnnTanh,
            Mode::RnnRelu => reference::Mode::RnnRelu,
        },
        input_size: config.input_size,
        hidden_size: config.hidden_size,
        num_layers: config.num_layers,
        bias: config.bias,
        bidirectional: config.bidirectional,
        proj_size: config.proj_size,
    }
}
