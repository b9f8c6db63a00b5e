//! The same bits with any number of threads, however the work is shared out among them.

mod common;

use common::Number;
use common::sample::Sample;
use tidegate::{
    Config, Generator, Mode, Options, Output, RnnBase, State, Tensor, View, set_num_threads,
};
use tidegate_testing::random::Random;

/// Calls large enough that several threads are worth it.
struct Call<E> {
    layer: RnnBase<E>,
    x: Tensor<E>,
    h_0: Tensor<E>,
    c_0: Option<Tensor<E>>,
    lengths: Option<Vec<usize>>,
}

impl<E: Number> Call<E> {
    fn new(config: Config, steps: usize, batch: usize, ragged: bool) -> Self {
        let mut random = Random::new(6);
        let mut tensor = |shape: &[usize]| {
            Tensor::new(shape, random.vec(shape.iter().product(), -1.0, 1.0)).unwrap()
        };
        let scans = config.num_layers * config.num_directions();
        let cells = config.mode.has_cell_state();
        let x = tensor(&[steps, batch, config.input_size]);
        let h_0 = tensor(&[scans, batch, config.output_size()]);
        let c_0 = cells.then(|| tensor(&[scans, batch, config.hidden_size]));
        let lengths = ragged.then(|| (0..batch).map(|_| random.between(0, steps)).collect());
        let layer = RnnBase::with_generator(config, &mut Generator::manual_seed(5)).unwrap();
        Self { layer, x, h_0, c_0, lengths }
    }

    fn run(&self, threads: usize) -> Output<E> {
        set_num_threads(threads);
        let mut generator = Generator::manual_seed(7);
        let options = Options {
            state: Some(State::from_tensors(&self.h_0, self.c_0.as_ref())),
            lengths: self.lengths.as_deref(),
            dropout: Some(&mut generator),
            ..Options::default()
        };
        self.layer.forward_with(View::from(&self.x), options).unwrap()
    }

    fn check(&self) {
        let want = self.run(1);
        let values = want.output.data().iter().chain(want.h_n.data());
        assert!(values.into_iter().all(|y| y.to_f64().is_finite()));
        for threads in [2, 3, 8, 2] {
            let (config, shape) = (self.layer.config(), self.x.shape());
            assert!(self.run(threads) == want, "{config}, x {shape:?}, {threads} threads");
        }
    }
}

/// One row: its units, directions or layers are shared out. Many rows: they are, or their units where
/// lengths differ.
fn check_all<E: Number>() {
    for mode in Mode::ALL {
        for bidirectional in [false, true] {
            let base =
                Config { num_layers: 3, dropout: 0.3, bidirectional, ..Config::new(mode, 40, 90) };
            let hidden = if mode.gates() > 1 { 90 } else { 165 };
            let config = Config { hidden_size: hidden, ..base };
            for (steps, batch, ragged) in
                [(60, 1, false), (60, 9, true), (50, 9, false), (2, 60, true)]
            {
                Call::<E>::new(config, steps, batch, ragged).check();
            }
        }
    }
    let projected = Config { num_layers: 2, proj_size: 20, ..Config::new(Mode::Lstm, 40, 100) };
    Call::<E>::new(projected, 60, 1, false).check();
    // One row of several layers with nothing between these: each thread runs a layer, where there are cores enough.
    for (hidden, layers, steps) in [(20, 2, 500), (32, 2, 500), (32, 3, 500), (70, 2, 130)] {
        for mode in Mode::ALL {
            let hidden = if mode.gates() > 1 { hidden } else { 2 * hidden };
            let config = Config { num_layers: layers, ..Config::new(mode, 40, hidden) };
            Call::<E>::new(config, steps, 1, false).check();
            Call::<E>::new(config, steps, 2, true).check();
        }
    }
    // One step, of units enough.
    for mode in Mode::ALL {
        let hidden = if mode.gates() > 1 { 700 } else { 1300 };
        for (batch, ragged) in [(1, false), (3, true)] {
            let config = Config { num_layers: 2, ..Config::new(mode, 600, hidden) };
            Call::<E>::new(config, 1, batch, ragged).check();
        }
    }
    // Weights too large to be read by every thread.
    Call::<E>::new(Config::new(Mode::Lstm, 5, 530), 3, 9, false).check();
}

// One test, since the number of threads is the process's.
#[test]
fn any_number_of_threads_gives_the_same_bits() {
    tidegate::wake_from(0); // short calls are to be shared out
    check_all::<f32>();
    check_all::<f64>();
    set_num_threads(0);
}

/// Runs `x: [T, B, I]` through a stream piece by piece with `threads(piece)` threads, the state saved
/// and set anew now and then; returns the outputs and the final state.
fn streamed<E: Number>(
    layer: &RnnBase<E>,
    x: &Tensor<E>,
    mut threads: impl FnMut(usize) -> usize,
) -> (Vec<E>, Tensor<E>, Option<Tensor<E>>) {
    let &[steps, batch, inputs] = x.shape() else { panic!("not [T, B, I]") };
    let outputs = batch * layer.config().output_size();
    let mut stream = layer.stream(batch).unwrap();
    stream.step(&x.data()[..batch * inputs]).unwrap();
    stream.reset();
    let (mut output, mut t) = (vec![E::from_f64(0.0); steps * outputs], 0);
    for piece in 0.. {
        let size = [1, 1, 3, 7][piece % 4].min(steps - t);
        if size == 0 {
            break;
        }
        stream.set_num_threads(threads(piece));
        let x = &x.data()[t * batch * inputs..(t + size) * batch * inputs];
        let to = &mut output[t * outputs..(t + size) * outputs];
        match size {
            1 => to.copy_from_slice(stream.step(x).unwrap()),
            _ => stream.push(x, to).unwrap(),
        }
        if piece % 5 == 2 {
            let (h, c) = stream.state();
            stream.reset();
            stream.step(x.split_at(batch * inputs).0).unwrap();
            stream.set_state(State::from_tensors(&h, c.as_ref())).unwrap();
        }
        t += size;
    }
    let (h, c) = stream.state();
    (output, h, c)
}

fn check_streams<E: Number>() {
    for mode in Mode::ALL {
        // Just long enough to be shared out, a size that fills no vector.
        let hidden = if mode.gates() > 1 { 259 } else { 467 };
        for (num_layers, batch) in [(1, 1), (3, 1), (2, 3)] {
            let config = Config { num_layers, ..Config::new(mode, 30, hidden) };
            let call = Call::<E>::new(config, 40, batch, false);
            let want = streamed(&call.layer, &call.x, |_| 1);
            for threads in [2, 3, 8, 0] {
                let got = streamed(&call.layer, &call.x, |_| threads);
                assert!(got == want, "{config}, {batch} rows, {threads} threads");
            }
            let got = streamed(&call.layer, &call.x, |piece| 1 + piece % 3);
            assert!(got == want, "{config}, {batch} rows, threads in turn");
        }
    }
}

#[test]
fn streams_give_the_same_bits_with_any_number_of_threads() {
    check_streams::<f32>();
    check_streams::<f64>();
}

/// A thread that may help with steps too short for it would only be in their way.
#[test]
fn short_steps_are_left_to_one_thread() {
    let threads_of = |hidden| {
        let layer = RnnBase::<f32>::new(Config::new(Mode::Gru, 8, hidden)).unwrap();
        let mut stream = layer.stream(1).unwrap();
        stream.set_num_threads(2);
        stream.num_threads()
    };
    let offered = std::thread::available_parallelism().map_or(1, usize::from);
    assert_eq!((threads_of(64), threads_of(300)), (1, offered.min(2)));
}

/// Eight threads share one layer, each with calls, gradients and a stream of its own, and the team between them.
#[test]
fn threads_that_share_a_layer_get_what_one_gets_alone() {
    let config = Config { num_layers: 2, ..Config::new(Mode::Lstm, 20, 96) };
    let samples: Vec<_> = (0..8)
        .map(|k| {
            let mut sample = Sample::<f32>::with(config, 12 + k, 1 + k, 4);
            sample.trains = false;
            sample
        })
        .collect();
    let layer = &samples[0].layer;
    let stream = |sample: &Sample<f32>| {
        let mut stream = layer.stream(sample.batch).unwrap();
        let step = sample.batch * config.input_size;
        let steps = sample.x.data().chunks_exact(step);
        steps.flat_map(|x| stream.step(x).unwrap().to_vec()).collect::<Vec<f32>>()
    };
    let want: Vec<_> = samples.iter().map(|sample| (sample.run(layer), stream(sample))).collect();
    std::thread::scope(|scope| {
        for (sample, want) in samples.iter().zip(&want) {
            scope.spawn(move || {
                for _ in 0..30 {
                    assert!((sample.run(layer), stream(sample)) == *want, "{}", sample.name);
                }
            });
        }
    });
}
