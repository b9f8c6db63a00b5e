//! A warm call allocates nothing: `forward_into` with a used workspace, a stream's steps and chunks. Training takes little.
#![allow(unsafe_code, reason = "an allocator that counts its calls")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::Number;
use ndarray::{Array3, ArrayView3, s};
use tidegate::{
    Config, Generator, GradientsMut, Gru, GruCell, Lstm, LstmCell, Mode, Options, Output,
    OutputMut, Rnn, RnnBase, RnnCell, Saved, State, Stream, Tensor, Upstream, View, Workspace,
    num_threads, set_num_threads,
};
use tidegate_testing::random::Random;

/// The system's allocator with a counter of its calls.
struct Counting;

thread_local! {
    /// Calls from this thread. One for each, so that the test harness may do as it likes.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that they took.
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending has no counter any more, and nobody who would ask for it.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = BYTES.try_with(|sum| sum.set(sum.get() + bytes));
}

// SAFETY: every call is passed on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0);
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `f` calls the allocator, to take or to give back.
fn allocations(f: impl FnOnce()) -> usize {
    let before = CALLS.get();
    f();
    CALLS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| ()), 0);
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 10]))), 2);
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0u8; 10]))), 2);
}

/// Every mode, and an LSTM with projections, each with the other options both ways.
fn configs(input_size: usize, hidden_size: usize) -> Vec<Config> {
    let mut configs = Vec::new();
    let projected = Config { proj_size: 2, ..Config::new(Mode::Lstm, input_size, hidden_size) };
    let plain = Mode::ALL.map(|mode| Config::new(mode, input_size, hidden_size));
    for config in plain.into_iter().chain([projected]) {
        for options in 0..16 {
            let [deep, bias, batch_first, bidirectional] = [1, 2, 4, 8].map(|k| options & k != 0);
            let (num_layers, dropout) = if deep { (3, 0.5) } else { (1, 0.0) };
            configs.push(Config {
                num_layers,
                bias,
                batch_first,
                dropout,
                bidirectional,
                ..config
            });
        }
    }
    configs
}

/// What a call is given beside its input.
struct Given<E> {
    h_0: Tensor<E>,
    c_0: Option<Tensor<E>>,
    lengths: Vec<usize>,
    generator: Generator,
}

impl<E: Number> Given<E> {
    /// Random states and lengths for `batch` sequences of `steps` steps.
    fn new(config: &Config, steps: usize, batch: usize, random: &mut Random) -> Self {
        let scans = config.num_layers * config.num_directions();
        let mut state = |size| {
            let data = random.vec(scans * batch * size, -1.0, 1.0);
            Tensor::new(&[scans, batch, size], data).unwrap()
        };
        let h_0 = state(config.output_size());
        let c_0 = config.mode.has_cell_state().then(|| state(config.hidden_size));
        let lengths = (0..batch).map(|_| random.between(0, steps)).collect();
        Self { h_0, c_0, lengths, generator: Generator::manual_seed(1) }
    }

    /// State, lengths and dropout, each if its bit is set.
    fn options(&mut self, bits: usize) -> Options<'_, E> {
        let Self { h_0, c_0, lengths, generator } = self;
        Options {
            state: (bits & 1 != 0).then(|| State::from_tensors(h_0, c_0.as_ref())),
            lengths: (bits & 2 != 0).then_some(lengths),
            padding_value: E::from_f64(0.25),
            dropout: (bits & 4 != 0).then_some(generator),
            ..Options::default()
        }
    }
}

/// Fills `result` with NaN, then with the answer to a call.
fn call<'a, E: Number>(
    layer: &RnnBase<E>,
    x: View<'a, E>,
    options: Options<'a, E>,
    workspace: &mut Workspace<E>,
    result: &mut Output<E>,
) {
    let nan = E::from_f64(f64::NAN);
    let out = OutputMut {
        output: result.output.data_mut(),
        h_n: result.h_n.data_mut(),
        c_n: result.c_n.as_mut().map_or(&mut [], Tensor::data_mut),
    };
    out.output.fill(nan);
    out.h_n.fill(nan);
    out.c_n.fill(nan);
    layer.forward_into(x, options, workspace, out).unwrap();
}

/// Calls `layer` twice over `x` with the options of `bits`; the second call must allocate nothing
/// and give the same answer.
fn check_call<E: Number>(
    layer: &RnnBase<E>,
    x: View<'_, E>,
    given: &mut Given<E>,
    bits: usize,
    workspace: &mut Workspace<E>,
) {
    let mut first = layer.empty_output(x).unwrap();
    let mut second = first.clone();
    given.generator = Generator::manual_seed(1);
    call(layer, x, given.options(bits), workspace, &mut first);
    given.generator = Generator::manual_seed(1);
    let calls = allocations(|| call(layer, x, given.options(bits), workspace, &mut second));
    let (config, threads) = (layer.config(), num_threads());
    assert_eq!(calls, 0, "{config}, x {:?}, options {bits:03b}, {threads} threads", x.shape());
    assert_eq!(first, second, "{config}, options {bits:03b}");
}

/// Calls every layer over inputs of every kind with every option.
fn check_forward<E: Number>(steps: usize, batch: usize, input_size: usize, hidden_size: usize) {
    let mut random = Random::new(17);
    for config in configs(input_size, hidden_size) {
        let layer = RnnBase::<E>::new(config).unwrap();
        let mut given = Given::<E>::new(&config, steps, batch, &mut random);
        let (a, b) = if config.batch_first { (batch, steps) } else { (steps, batch) };
        let data = random.vec(4 * a * b * input_size, -1.0, 1.0);
        let wide = Array3::from_shape_vec((2 * a, b, 2 * input_size), data).unwrap();
        let turned = wide.view().permuted_axes([1, 0, 2]).to_owned().permuted_axes([1, 0, 2]);
        let views: [ArrayView3<'_, E>; 3] = [
            wide.slice(s![..a, .., ..input_size]),
            wide.slice(s![..;-2, .., ..;2]),
            turned.slice(s![a.., ..;-1, ..input_size]),
        ];
        let dropouts = if config.num_layers > 1 { 8 } else { 4 };
        for bits in 0..dropouts {
            for x in views {
                check_call(&layer, x.into(), &mut given, bits, &mut Workspace::new());
            }
        }
        // One sequence without a batch dimension.
        let data: Vec<E> = random.vec(steps * input_size, -1.0, 1.0);
        let x = View::new(&data, &[steps, input_size]).unwrap();
        check_call(&layer, x, &mut given, 0, &mut Workspace::new());
    }
}

/// A workspace that has served all layers by turns serves them again without allocating.
fn check_shared_workspace<E: Number>() {
    let mut random = Random::new(19);
    let mut workspace = Workspace::new();
    for round in 0..2 {
        for config in configs(5, 7) {
            let layer = RnnBase::<E>::new(config).unwrap();
            layer.prepack().unwrap();
            let (steps, batch) = if round == 0 { (12, 8) } else { (7, 5) };
            let mut given = Given::<E>::new(&config, steps, batch, &mut random);
            let (a, b) = if config.batch_first { (batch, steps) } else { (steps, batch) };
            let x = Tensor::new(&[a, b, 5], random.vec(a * b * 5, -1.0, 1.0)).unwrap();
            let mut result = layer.empty_output(&x).unwrap();
            let (x, options) = (View::from(&x), given.options(7));
            let calls = allocations(|| call(&layer, x, options, &mut workspace, &mut result));
            assert!(round == 0 || calls == 0, "{config}: {calls} calls");
        }
    }
}

// One test, since the number of threads is the process's.
#[test]
fn a_used_workspace_allocates_nothing() {
    tidegate::wake_from(0); // short calls are to be shared out
    // 0 stands for as many threads as there are; these calls are too small for more than one.
    for threads in [1, 0] {
        set_num_threads(threads);
        check_forward::<f32>(6, 3, 5, 7);
        check_forward::<f64>(6, 3, 5, 7);
        check_shared_workspace::<f32>();
        check_shared_workspace::<f64>();
    }
    // Long enough for several chunks of steps, and wide enough for two threads.
    for threads in [1, 2] {
        set_num_threads(threads);
        for mode in Mode::ALL {
            let config = Config { bidirectional: true, ..Config::new(mode, 24, 40) };
            let layer = RnnBase::<f32>::new(config).unwrap();
            let mut random = Random::new(23);
            let mut given = Given::new(&config, 300, 9, &mut random);
            let x = Tensor::new(&[300, 9, 24], random.vec(300 * 9 * 24, -1.0, 1.0)).unwrap();
            for bits in 0..4 {
                check_call(&layer, (&x).into(), &mut given, bits, &mut Workspace::new());
            }
        }
    }
    set_num_threads(1);
    check_training();
    set_num_threads(0);
}

/// Bytes that the third training call takes in the same memory; without the gradient of the input unless it is `wanted`.
fn bytes_of_training(config: Config, mut saved: Saved<f32>, batch: usize, wanted: bool) -> usize {
    let layer = RnnBase::<f32>::new(config).unwrap();
    let mut random = Random::new(31);
    let x = [20, batch, config.input_size];
    let x = Tensor::new(&x, random.vec(x.iter().product(), -1.0, 1.0)).unwrap();
    let mut result = layer.empty_output(&x).unwrap();
    let (mut workspace, mut d_x) = (Workspace::new(), x.clone());
    let mut gradients: Vec<_> = layer.parameters().to_vec();
    let mut bytes = 0;
    for _ in 0..3 {
        let before = BYTES.get();
        let out = OutputMut {
            output: result.output.data_mut(),
            h_n: result.h_n.data_mut(),
            c_n: result.c_n.as_mut().map_or(&mut [], Tensor::data_mut),
        };
        let options = Options::default();
        layer.forward_train_into(&x, options, &mut workspace, &mut saved, out).unwrap();
        let upstream = Upstream { output: Some((&result.output).into()), ..Upstream::default() };
        let into = GradientsMut {
            input: wanted.then(|| d_x.data_mut()),
            parameters: gradients.iter_mut().map(|own| Some(own.data_mut())).collect(),
            ..GradientsMut::default()
        };
        layer.backward_into(&x, upstream, &saved, &mut workspace, into).unwrap();
        bytes = BYTES.get() - before;
    }
    bytes
}

/// Training in used memory takes little: lists of what is to be done, and biases; the smallest matrix has 54 KB, the deltas of 128 rows 110 KB.
fn check_training() {
    // Input weights of more than 16 MB, which forward does not pack.
    for wanted in [false, true] {
        let bytes = bytes_of_training(Config::new(Mode::Gru, 90_000, 16), Saved::new(), 8, wanted);
        assert!(bytes < 50_000, "many inputs, input: {wanted}: {bytes} bytes");
    }
    for mode in Mode::ALL {
        let one = Config::new(mode, 108, 128);
        let two = Config { num_layers: 2, ..one };
        for config in [one, two, Config { bidirectional: true, ..one }] {
            for (batch, wanted) in [(1, false), (8, false), (8, true)] {
                for saved in [Saved::new(), Saved::with_checkpoints(5)] {
                    let name = format!("{config}, batch {batch}, input: {wanted}, {saved:?}");
                    let bytes = bytes_of_training(config, saved, batch, wanted);
                    assert!(bytes < 50_000, "{name}: {bytes} bytes");
                }
            }
        }
    }
}

/// Feeds `layer` the steps of `x: [T, B, I]` one at a time and in chunks, the longest first; the
/// output must be that of one call.
fn check_stream<E: Number>(layer: &RnnBase<E>, batch: usize, random: &mut Random) {
    let config = layer.config();
    let (inputs, outputs) = (batch * config.input_size, batch * config.output_size());
    let chunks = [1, 1, 5, 3, 1, 5, 2];
    let steps = chunks.iter().sum();
    let x: Vec<E> = random.vec(steps * inputs, -1.0, 1.0);
    let shape = [steps, batch, config.input_size];
    let whole = layer.forward_with(View::new(&x, &shape).unwrap(), Options::default()).unwrap();
    let mut stream = layer.stream(batch).unwrap();
    let mut got = vec![E::from_f64(f64::NAN); steps * outputs];
    let (mut x, mut out, mut longest) = (&x[..], &mut got[..], 1);
    for chunk in chunks {
        let (now, later) = x.split_at(chunk * inputs);
        let (to, rest) = out.split_at_mut(chunk * outputs);
        let calls = allocations(|| match chunk {
            1 => to.copy_from_slice(stream.step(now).unwrap()),
            _ => stream.push(now, to).unwrap(),
        });
        assert!(chunk > longest || calls == 0, "{config}, batch {batch}, {chunk} steps: {calls}");
        longest = longest.max(chunk);
        (x, out) = (later, rest);
    }
    assert_eq!(got, whole.output.data(), "{config}, batch {batch}");
    let (h, c) = stream.state();
    assert_eq!((&h, &c), (&whole.h_n, &whole.c_n), "{config}, batch {batch}");
    let calls = allocations(|| {
        stream.reset();
        stream.set_state(State::from_tensors(&h, c.as_ref())).unwrap();
    });
    assert_eq!(calls, 0, "{config}, batch {batch}: reset and set_state");
}

#[test]
fn a_stream_allocates_nothing() {
    let mut random = Random::new(29);
    let configs = [configs(5, 7), configs(33, 40)].concat();
    let streams = |config: &Config| !config.bidirectional && !config.batch_first;
    for config in configs.into_iter().filter(streams) {
        // The chunks of a batch this large are cut into pieces.
        for batch in [1, 3, 17] {
            check_stream(&RnnBase::<f32>::new(config).unwrap(), batch, &mut random);
            check_stream(&RnnBase::<f64>::new(config).unwrap(), batch, &mut random);
        }
    }
}

#[test]
fn a_clone_of_a_stream_allocates_nothing() {
    let layer = RnnBase::<f32>::new(Config::new(Mode::Lstm, 64, 300)).unwrap();
    let mut stream = layer.stream(1).unwrap();
    stream.set_num_threads(2);
    stream.step(&[0.5; 64]).unwrap();
    let mut clone = stream.clone();
    let calls = allocations(|| {
        std::hint::black_box(clone.step(&[0.5; 64]).unwrap());
    });
    assert_eq!(calls, 0);
}

/// Compiles for types that threads may share and hand over.
const fn shareable<T: Send + Sync>() {}

/// What every thread may use: layers, cells, streams and what they take.
const _: () = {
    shareable::<(RnnBase<f32>, RnnBase<f64>, Stream<f32>, Stream<f64>)>();
    shareable::<(Lstm<f32>, Gru<f32>, Rnn<f32>, Lstm<f64>, Gru<f64>, Rnn<f64>)>();
    shareable::<(LstmCell<f32>, GruCell<f32>, RnnCell<f32>)>();
    shareable::<(LstmCell<f64>, GruCell<f64>, RnnCell<f64>)>();
    shareable::<(Workspace<f32>, Generator, Tensor<f32>, View<'static, f32>)>();
    shareable::<(Options<'static, f32>, OutputMut<'static, f32>, State<'static, f32>)>();
};
