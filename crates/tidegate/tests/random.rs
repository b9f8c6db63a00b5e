//! Random configurations against the reference, and against themselves cut into pieces.

mod common;

use common::Number;
use common::sample::{any_config, spec};
use tidegate::{
    Config, Generator, Level, Mode, Options, Output, RnnBase, State, StateDict, Tensor, View,
};
use tidegate_reference as reference;
use tidegate_testing::close::{Tolerance, assert_close, assert_same_bits};
use tidegate_testing::random::Random;

/// A random layer with an input, states and lengths.
struct Sample<E> {
    name: String,
    layer: RnnBase<E>,
    steps: usize,
    batch: usize,
    /// `[T, B, I]`
    x: Vec<E>,
    /// `[D*L, B, P]`
    h_0: Vec<E>,
    /// `[D*L, B, H]`
    c_0: Vec<E>,
    lengths: Option<Vec<usize>>,
}

impl<E: Number> Sample<E> {
    fn new(seed: u64) -> Self {
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

    fn config(&self) -> &Config {
        self.layer.config()
    }

    /// `[D*L, B, P]` and `[D*L, B, H]`.
    fn state(&self) -> State<'_, E> {
        let config = self.config();
        let scans = config.num_layers * config.num_directions();
        let c = View::new(&self.c_0, &[scans, self.batch, config.hidden_size]);
        State {
            h: View::new(&self.h_0, &[scans, self.batch, config.output_size()]).unwrap(),
            c: config.mode.has_cell_state().then(|| c.unwrap()),
        }
    }

    fn run(&self, layer: &RnnBase<E>) -> Output<E> {
        let x = View::new(&self.x, &[self.steps, self.batch, self.config().input_size]).unwrap();
        let options = Options {
            state: Some(self.state()),
            lengths: self.lengths.as_deref(),
            ..Options::default()
        };
        layer.forward_with(x, options).unwrap()
    }

    /// The same call by the reference, `masks` being dropout's.
    fn reference(&self, masks: Option<&[f64]>) -> reference::Answer {
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

    fn assert_close(&self, got: &Output<E>, want: &reference::Answer, tolerance: Tolerance) {
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
fn tolerance<E: Number>() -> Tolerance {
    if size_of::<E>() == 4 { Tolerance::new(3e-6, 3e-6) } else { Tolerance::new(1e-14, 1e-14) }
}

fn against_reference<E: Number>(seeds: core::ops::Range<u64>) {
    for seed in seeds {
        let sample = Sample::<E>::new(seed);
        let got = sample.run(&sample.layer);
        sample.assert_close(&got, &sample.reference(None), tolerance::<E>());
    }
}

#[test]
fn f32_layers_agree_with_the_reference() {
    against_reference::<f32>(0..2000);
}

#[test]
fn f64_layers_agree_with_the_reference() {
    against_reference::<f64>(2000..4000);
}

fn assert_same<E: Number>(name: &str, got: &Output<E>, want: &Output<E>) {
    assert_eq!(got.output.shape(), want.output.shape(), "{name}");
    assert_same_bits(name, "output", got.output.shape(), got.output.data(), want.output.data());
    assert_same_bits(name, "h_n", got.h_n.shape(), got.h_n.data(), want.h_n.data());
    if let (Some(got), Some(want)) = (&got.c_n, &want.c_n) {
        assert_same_bits(name, "c_n", got.shape(), got.data(), want.data());
    }
}

fn at_every_level<E: Number>() {
    let levels = Level::available();
    for seed in 0..300 {
        let sample = Sample::<E>::new(seed);
        let want = sample.run(&sample.layer);
        for level in &levels {
            let got = sample.run(&sample.layer.at_level(*level));
            assert_same(&format!("{} at level {}", sample.name, level.name()), &got, &want);
        }
    }
}

#[test]
fn every_level_gives_the_same_bits() {
    at_every_level::<f32>();
    at_every_level::<f64>();
}

/// A sample of the given sizes, to reach every shape of tile.
fn sized<E: Number>(mode: Mode, inputs: usize, hidden: usize, batch: usize) -> Sample<E> {
    let mut random = Random::new((inputs * hidden + batch) as u64);
    let config = Config::new(mode, inputs, hidden);
    let mut generator = Generator::manual_seed(7);
    let cells = if mode.has_cell_state() { hidden } else { 0 };
    Sample {
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

fn every_tile<E: Number>() {
    let levels = Level::available();
    for mode in Mode::ALL {
        for (inputs, hidden) in [(1, 63), (100, 64), (7, 65), (68, 128), (129, 129), (3, 257)] {
            for batch in [1, 2, 3, 4, 5, 6, 7, 8, 17, 64] {
                let sample = sized::<E>(mode, inputs, hidden, batch);
                let want = sample.run(&sample.layer);
                sample.assert_close(&want, &sample.reference(None), tolerance::<E>());
                for level in &levels {
                    let got = sample.run(&sample.layer.at_level(*level));
                    assert_same(&format!("{} at {}", sample.name, level.name()), &got, &want);
                }
            }
        }
    }
}

#[test]
fn every_shape_of_tile_is_right_at_every_level() {
    every_tile::<f32>();
    every_tile::<f64>();
}

/// In CI, a machine that lacks an instruction set must not pass for one that has tested it.
#[test]
fn the_required_levels_are_there() {
    let names: Vec<_> = Level::available().iter().map(|level| level.name()).collect();
    println!("levels: {names:?}");
    let required: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["avx512", "avx2", "scalar"],
        "aarch64" => &["neon", "scalar"],
        _ => &["scalar"],
    };
    if std::env::var_os("CI").is_some() {
        for level in required {
            assert!(
                names.contains(level),
                "CI must test level {level}, this machine has {names:?}"
            );
        }
    } else if required.iter().any(|level| !names.contains(level)) {
        eprintln!("NOT TESTED: of the levels {required:?} this machine has only {names:?}");
    }
}

/// Rows `rows` of the batch alone.
fn part<E: Number>(sample: &Sample<E>, rows: core::ops::Range<usize>) -> Sample<E> {
    let rows_of = |data: &[E], width: usize| -> Vec<E> {
        data.chunks_exact(sample.batch * width)
            .flat_map(|step| &step[rows.start * width..rows.end * width])
            .copied()
            .collect()
    };
    let config = sample.config();
    Sample {
        name: format!("{}, rows {rows:?}", sample.name),
        layer: sample.layer.clone(),
        steps: sample.steps,
        batch: rows.len(),
        x: rows_of(&sample.x, config.input_size),
        h_0: rows_of(&sample.h_0, config.output_size()),
        c_0: rows_of(&sample.c_0, config.hidden_size),
        lengths: sample.lengths.as_ref().map(|lengths| lengths[rows.clone()].to_vec()),
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for seed in 0..400 {
        let sample = Sample::<f32>::new(seed);
        let whole = sample.run(&sample.layer);
        let mut start = 0;
        for length in Random::new(seed).pieces(sample.batch) {
            let part = part(&sample, start..start + length);
            let got = part.run(&part.layer);
            let rows = |tensor: &Tensor<f32>| -> Vec<f32> {
                let width = tensor.shape()[2];
                let step = sample.batch * width;
                let steps = tensor.data().chunks_exact(step);
                steps.flat_map(|s| &s[start * width..(start + length) * width]).copied().collect()
            };
            let shape = got.output.shape();
            assert_same_bits(&part.name, "output", shape, got.output.data(), &rows(&whole.output));
            assert_same_bits(&part.name, "h_n", got.h_n.shape(), got.h_n.data(), &rows(&whole.h_n));
            start += length;
        }
    }
}

#[test]
fn a_stream_in_any_pieces_gives_the_bits_of_one_call() {
    for seed in 0..400 {
        let mut sample = Sample::<f32>::new(seed);
        sample.lengths = None;
        let config = Config { bidirectional: false, ..*sample.config() };
        sample.layer = RnnBase::with_generator(config, &mut Generator::manual_seed(seed)).unwrap();
        sample.h_0.truncate(config.num_layers * sample.batch * config.output_size());
        let cells = if config.mode.has_cell_state() { config.hidden_size } else { 0 };
        sample.c_0.truncate(config.num_layers * sample.batch * cells);
        let want = sample.run(&sample.layer);

        let mut stream = sample.layer.stream(sample.batch).unwrap();
        stream.set_state(sample.state()).unwrap();
        let (input, size) = (sample.batch * config.input_size, sample.batch * config.output_size());
        let mut output = Vec::new();
        for piece in Random::new(seed).pieces(sample.steps) {
            let done = output.len() / size;
            let x = &sample.x[done * input..(done + piece) * input];
            if piece == 1 {
                output.extend_from_slice(stream.step(x).unwrap());
            } else {
                output.resize((done + piece) * size, f32::NAN);
                stream.push(x, &mut output[done * size..]).unwrap();
            }
        }
        assert_same_bits(&sample.name, "output", want.output.shape(), &output, want.output.data());
        let (h, c) = stream.state();
        assert_same_bits(&sample.name, "h_n", h.shape(), h.data(), want.h_n.data());
        assert_eq!(c, want.c_n, "{}", sample.name);

        // From the start again, through a stream that shares the weights.
        stream.reset();
        let mut other = sample.layer.stream(sample.batch).unwrap();
        assert_eq!(stream.step(&sample.x[..input]), other.step(&sample.x[..input]));
    }
}

#[test]
fn layouts_change_no_bit() {
    for seed in 0..200 {
        let sample = Sample::<f32>::new(seed);
        let want = sample.run(&sample.layer);
        let config = Config { batch_first: true, ..*sample.config() };
        let layer = RnnBase::from_state_dict(config, &sample.layer.state_dict(), "").unwrap();
        let x = ndarray::ArrayView3::from_shape(
            (sample.steps, sample.batch, config.input_size),
            &sample.x,
        )
        .unwrap();
        // Batch first: once as a transposed view, once reversed in memory.
        let transposed = x.permuted_axes([1, 0, 2]);
        let mut backwards = transposed.to_owned();
        backwards.invert_axis(ndarray::Axis(2));
        let mut reversed = backwards.as_standard_layout().to_owned();
        reversed.invert_axis(ndarray::Axis(2));
        for x in [View::from(transposed), View::from(&reversed)] {
            let options = Options {
                state: Some(sample.state()),
                lengths: sample.lengths.as_deref(),
                ..Options::default()
            };
            let got = layer.forward_with(x, options).unwrap();
            let got = Output {
                output: Tensor::new(
                    want.output.shape(),
                    got.output
                        .to_ndarray()
                        .permuted_axes(vec![1, 0, 2])
                        .iter()
                        .copied()
                        .collect::<Vec<_>>(),
                )
                .unwrap(),
                ..got
            };
            assert_same(&sample.name, &got, &want);
        }
    }
}

#[test]
fn padding_holds_the_padding_value_and_empty_rows_keep_their_state() {
    let layer = RnnBase::<f64>::new(Config {
        bidirectional: true,
        num_layers: 2,
        ..Config::new(Mode::Lstm, 3, 5)
    })
    .unwrap();
    let mut random = Random::new(1);
    let (x, h, c) = (
        random.vec(4 * 3 * 3, -1.0, 1.0),
        random.vec(4 * 3 * 5, -1.0, 1.0),
        random.vec::<f64>(4 * 3 * 5, -1.0, 1.0),
    );
    let lengths = [0, 4, 2];
    let options = Options {
        state: Some(State {
            h: View::new(&h, &[4, 3, 5]).unwrap(),
            c: Some(View::new(&c, &[4, 3, 5]).unwrap()),
        }),
        lengths: Some(&lengths),
        padding_value: -7.0,
        ..Options::default()
    };
    let got = layer.forward_with(View::new(&x, &[4, 3, 3]).unwrap(), options).unwrap();
    for (row, values) in got.output.data().chunks_exact(10).enumerate() {
        let (t, b) = (row / 3, row % 3);
        assert_eq!(values.iter().all(|&v| v == -7.0), t >= lengths[b], "step {t}, row {b}");
    }
    for scan in 0..4 {
        let row = scan * 15..scan * 15 + 5; // row 0, which is empty
        assert_eq!(got.h_n.data()[row.clone()], h[row.clone()]);
        assert_eq!(got.c_n.as_ref().unwrap().data()[row.clone()], c[row]);
    }
}

#[test]
fn dropout_is_drawn_in_training_and_only_between_layers() {
    for seed in 0..50 {
        let mut sample = Sample::<f64>::new(seed);
        sample.lengths = None;
        let config = Config { dropout: 0.4, ..*sample.config() };
        sample.layer = RnnBase::from_state_dict(config, &sample.layer.state_dict(), "").unwrap();
        let x = View::new(&sample.x, &[sample.steps, sample.batch, config.input_size]).unwrap();
        let train = |generator: &mut Generator| {
            let state = Some(sample.state());
            let options = Options { state, dropout: Some(generator), ..Options::default() };
            sample.layer.forward_with(x, options).unwrap()
        };
        let got = train(&mut Generator::manual_seed(seed));
        assert_same(&sample.name, &train(&mut Generator::manual_seed(seed)), &got);

        // One number per element between layers, in the order of the layers' outputs.
        let width = config.num_directions() * config.output_size();
        let count = (config.num_layers - 1) * sample.steps * sample.batch * width;
        let mut generator = Generator::manual_seed(seed);
        let draw = |_| if generator.uniform::<f64>() < 0.4 { 0.0 } else { 1.0 / 0.6 };
        let masks: Vec<f64> = (0..count).map(draw).collect();
        sample.assert_close(&got, &sample.reference(Some(&masks)), tolerance::<f64>());
        // Evaluation mode: none.
        let evaluated = sample.run(&sample.layer);
        sample.assert_close(&evaluated, &sample.reference(None), tolerance::<f64>());
    }
}

/// A layer that keeps its weights as bf16 is the layer with rounded weights.
#[test]
fn weights_kept_as_bf16_give_the_bits_of_rounded_weights() {
    let levels = Level::available();
    let check = |sample: &Sample<f32>| {
        let half = sample.layer.with_bf16_weights();
        let rounded = half.state_dict();
        for (name, tensor) in sample.layer.named_parameters() {
            for (&w, &r) in tensor.data().iter().zip(rounded.get(&name).unwrap().data()) {
                let is_weight = tensor.shape().len() == 2;
                assert!(if is_weight { r.to_bits() & 0xffff == 0 } else { r == w }, "{name}");
                assert!((r - w).abs() <= w.abs() / 256.0, "{name}: {w} became {r}");
            }
        }
        let full = RnnBase::from_state_dict(*sample.config(), &rounded, "").unwrap();
        let want = sample.run(&full);
        for level in &levels {
            let got = sample.run(&half.at_level(*level));
            assert_same(&format!("{} at level {}", sample.name, level.name()), &got, &want);
        }
        if !half.config().bidirectional {
            let row = &sample.x[..sample.batch * half.config().input_size];
            let (mut half, mut full) =
                (half.stream(sample.batch).unwrap(), full.stream(sample.batch).unwrap());
            assert_eq!(half.step(row).unwrap(), full.step(row).unwrap(), "{}", sample.name);
        }
    };
    for seed in 0..300 {
        check(&Sample::new(seed));
    }
    for mode in Mode::ALL {
        for batch in 1..=8 {
            check(&sized(mode, 17, 70, batch));
        }
    }
}
