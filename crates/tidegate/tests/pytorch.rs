//! The layers, the cells and the packing functions give PyTorch's recorded answers.

mod common;

use common::{Number, config, dict, mode, tensor, view};
use tidegate::{
    Config, Generator, GruCell, Level, LstmCell, Mode, Nonlinearity, Options, Output,
    PackedSequence, PaddingSide, RnnBase, RnnCell, Saved, State, StateDict, Tensor, Upstream, View,
    manual_seed, pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence,
    unpack_sequence, unpad_sequence,
};
use tidegate_testing::close::{Tolerance, assert_close, errors};
use tidegate_testing::fixtures::{self, Case, Dtype, Kind, cases};

/// How far an element may be from PyTorch's.
fn tolerance(dtype: Dtype) -> Tolerance {
    // Relative beyond 1, where only a relu network goes.
    match dtype {
        Dtype::F32 => Tolerance::new(2e-6, 1e-6),
        _ => Tolerance::new(1e-12, 1e-12),
    }
}

/// Compares one result with PyTorch's and returns the largest errors against float64, ours and
/// PyTorch's, where both are known.
fn compare<E: Number>(case: &Case, name: &str, got: &Tensor<E>) -> Option<[f64; 2]> {
    let want = &case.outputs[name];
    assert_eq!(got.shape(), want.shape, "{}: shape of {name}", case.name);
    let values = want.to::<E>();
    assert_close(&case.name, name, &want.shape, got.data(), &values, tolerance(case.dtype));
    let exact = case.output_f64(name).map(fixtures::Tensor::to::<f64>)?;
    let both = [errors(got.data(), &exact).max, errors(&values, &exact).max];
    (case.dtype == Dtype::F32 && case.special.is_none()).then_some(both)
}

/// The layer's answer in the shapes of the case, by way of the interface the case is about.
fn run_layer<E: Number>(case: &Case, layer: &RnnBase<E>) -> Output<E> {
    let x = tensor::<E>(&case.inputs["input"]);
    let [h_0, c_0] = ["h_0", "c_0"].map(|name| case.inputs.get(name).map(tensor::<E>));
    let state = view(&h_0).map(|h| State { h, c: view(&c_0) });
    let mut generator = Generator::manual_seed(1);
    let dropout = case.training.then_some(&mut generator);
    if !case.packed {
        return layer.forward_with(&x, Options { state, dropout, ..Options::default() }).unwrap();
    }
    let lengths = case.lengths.as_deref().expect("a packed case has lengths");
    let packed = pack_padded_sequence(&x, lengths, case.batch_first, case.enforce_sorted).unwrap();
    assert_eq!(packed.batch_sizes(), case.outputs["batch_sizes"].sizes(), "{}", case.name);
    let (output, h_n, c_n) =
        layer.forward_packed(&packed, Options { state, dropout, ..Options::default() }).unwrap();
    let padding_value = E::from_f64(case.padding_value);
    let (output, _) =
        pad_packed_sequence(&output, case.batch_first, padding_value, case.total_length).unwrap();
    Output { output, h_n, c_n }
}

/// The same call with `lengths` instead of a packed sequence gives the same bits.
fn check_lengths<E: Number>(case: &Case, layer: &RnnBase<E>, packed: &Output<E>) {
    let x = tensor::<E>(&case.inputs["input"]);
    let [h_0, c_0] = ["h_0", "c_0"].map(|name| case.inputs.get(name).map(tensor::<E>));
    let state = view(&h_0).map(|h| State { h, c: view(&c_0) });
    let lengths = case.lengths.as_deref();
    let padding_value = E::from_f64(case.padding_value);
    let options = Options { state, lengths, padding_value, ..Options::default() };
    let padded = layer.forward_with(&x, options).unwrap();
    assert_eq!((&padded.h_n, &padded.c_n), (&packed.h_n, &packed.c_n), "{}", case.name);
    let rows =
        |output: &Tensor<E>| unpad_sequence(output, lengths.unwrap(), case.batch_first).unwrap();
    assert_eq!(rows(&padded.output), rows(&packed.output), "{}", case.name);
}

/// Checks a layer case and returns its errors, ours and PyTorch's.
fn check_layer<E: Number>(case: &Case) -> Option<[f64; 2]> {
    let layer = RnnBase::from_state_dict(config(case), &dict::<E>(&case.parameters), "").unwrap();
    let result = run_layer(case, &layer);
    assert_eq!(result.c_n.is_some(), case.outputs.get("c_n").is_some(), "{}", case.name);
    for level in Level::available() {
        let other = run_layer(case, &layer.at_level(level));
        let c_n = |result: &Output<E>| result.c_n.as_ref().map_or(vec![], |c| c.data().to_vec());
        for (got, want) in [
            (other.output.data(), result.output.data()),
            (other.h_n.data(), result.h_n.data()),
            (&c_n(&other), &c_n(&result)),
        ] {
            // Denormals, infinities and NaN included; which NaN, nobody promises.
            let mut pairs = got.iter().zip(want).map(|(a, b)| (a.to_f64(), b.to_f64()));
            let same = pairs.all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
            assert!(same, "{} at level {}", case.name, level.name());
        }
    }
    let pairs = [
        compare(case, "output", &result.output),
        compare(case, "h_n", &result.h_n),
        result.c_n.as_ref().and_then(|c_n| compare(case, "c_n", c_n)),
    ];
    if case.packed && !case.training && case.special.is_none() {
        check_lengths(case, &layer, &result);
    }
    pairs.into_iter().flatten().reduce(|a, b| [a[0].max(b[0]), a[1].max(b[1])])
}

/// An error that no order of summation can be blamed for: half a unit in the last place of the
/// result and as much of the sum before it. PyTorch's own error on a case of a few elements is
/// less than that by luck now and then.
const ROUNDING: f64 = 1.2e-7;

#[test]
fn layers() {
    let mut ratios = Vec::new();
    let mut count = 0;
    for case in cases().iter().filter(|case| case.kind == Kind::Layer) {
        let errors = match case.dtype {
            Dtype::F32 => check_layer::<f32>(case),
            _ => check_layer::<f64>(case),
        };
        if let Some([ours, theirs]) = errors.filter(|errors| errors[1] > 0.0) {
            ratios.push((ours / theirs.max(ROUNDING / 2.0), case.name.clone()));
        }
        count += 1;
    }
    assert!(count >= 200 && ratios.len() >= 100, "only {count} cases, {} of f32", ratios.len());

    // The largest of a case's rounding errors is a draw from a distribution, and so is PyTorch's;
    // where a network amplifies them the draws lie far apart. So: no worse than PyTorch on
    // average, no more than twice its error but for one case in fifty, and never far more.
    let mean = ratios.iter().map(|(ratio, _)| ratio.max(1e-3).ln()).sum::<f64>();
    let mean = (mean / ratios.len() as f64).exp();
    ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
    let beyond = ratios.iter().filter(|(ratio, _)| *ratio > 2.0).count();
    println!("error against float64 over PyTorch's: {mean:.3} in the geometric mean");
    println!("{beyond} of {} cases beyond 2; the largest: {:.3?}", ratios.len(), &ratios[..6]);
    assert!(mean <= 1.0, "the errors are {mean:.3} times PyTorch's in the geometric mean");
    assert!(beyond * 50 <= ratios.len(), "{beyond} cases beyond 2: {:?}", &ratios[..beyond]);
    assert!(ratios[0].0 <= 8.0, "{:?}", ratios[0]);
}

/// Of the largest element of the gradient, or of 1.
fn gradient_tolerance(dtype: Dtype) -> f64 {
    if dtype == Dtype::F32 { 2e-6 } else { 1e-10 }
}

/// Checks a gradient case; returns the largest error against PyTorch, in parts of the tolerance.
fn check_gradient<E: Number>(case: &Case) -> f64 {
    let layer = RnnBase::from_state_dict(config(case), &dict::<E>(&case.parameters), "").unwrap();
    let x = tensor::<E>(&case.inputs["input"]);
    let given = |name: &str| case.inputs.get(name).map(tensor::<E>);
    let [h_0, c_0] = ["h_0", "c_0"].map(given);
    let [d_output, d_h_n, d_c_n] = ["d_output", "d_h_n", "d_c_n"].map(given);
    let mut generator = Generator::manual_seed(1);
    let options = Options {
        state: view(&h_0).map(|h| State { h, c: view(&c_0) }),
        lengths: case.lengths.as_deref(),
        dropout: case.training.then_some(&mut generator),
        ..Options::default()
    };
    let mut saved = Saved::new();
    layer.forward_train(&x, options, &mut saved).unwrap();
    let upstream = Upstream { output: view(&d_output), h_n: view(&d_h_n), c_n: view(&d_c_n) };
    let gradients = layer.backward(&x, upstream, &saved).unwrap();
    let names = layer.config().parameters().into_iter().map(|(name, _)| format!("d_{name}"));
    let mut all: Vec<(String, Tensor<E>)> = names.zip(gradients.parameters).collect();
    all.push(("d_input".to_string(), gradients.input));
    if case.state {
        all.push(("d_h_0".to_string(), gradients.h_0));
        all.extend(gradients.c_0.map(|c_0| ("d_c_0".to_string(), c_0)));
    }
    let mut worst: f64 = 0.0;
    for (name, got) in all {
        let want = &case.outputs[&name];
        assert_eq!(got.shape(), want.shape, "{}: shape of {name}", case.name);
        let want: Vec<f64> = want.to();
        let largest = want.iter().fold(1.0, |most: f64, d| most.max(d.abs()));
        let off = got.data().iter().zip(&want).map(|(got, want)| (got.to_f64() - want).abs());
        let off = off.fold(0.0, f64::max) / largest / gradient_tolerance(case.dtype);
        assert!(off <= 1.0, "{}: {name} is off by {off} times what is allowed", case.name);
        worst = worst.max(off);
    }
    worst
}

#[test]
fn gradients() {
    let mut off = Vec::new();
    for case in cases().iter().filter(|case| case.kind == Kind::Gradient) {
        off.push(match case.dtype {
            Dtype::F32 => check_gradient::<f32>(case),
            _ => check_gradient::<f64>(case),
        });
    }
    assert!(off.len() >= 19, "only {} cases", off.len());
    let worst = off.iter().copied().fold(0.0, f64::max);
    println!("gradients of {} cases off by at most {worst:.3} of what is allowed", off.len());
}

/// A cell of the case's mode, seeded by whoever calls.
enum AnyCell<E> {
    Lstm(LstmCell<E>),
    Gru(GruCell<E>),
    Rnn(RnnCell<E>),
}

impl<E: Number> AnyCell<E> {
    fn new(case: &Case) -> Self {
        let (i, h, bias) = (case.input_size, case.hidden_size, case.bias);
        match mode(case.mode) {
            Mode::Lstm => Self::Lstm(LstmCell::new(i, h, bias).unwrap()),
            Mode::Gru => Self::Gru(GruCell::new(i, h, bias).unwrap()),
            Mode::RnnTanh => Self::Rnn(RnnCell::new(i, h, bias, Nonlinearity::Tanh).unwrap()),
            Mode::RnnRelu => Self::Rnn(RnnCell::new(i, h, bias, Nonlinearity::Relu).unwrap()),
        }
    }

    fn load(&mut self, dict: &StateDict<E>) {
        match self {
            Self::Lstm(cell) => cell.load_state_dict(dict, "").unwrap(),
            Self::Gru(cell) => cell.load_state_dict(dict, "").unwrap(),
            Self::Rnn(cell) => cell.load_state_dict(dict, "").unwrap(),
        }
    }

    fn state_dict(&self) -> StateDict<E> {
        match self {
            Self::Lstm(cell) => cell.state_dict(),
            Self::Gru(cell) => cell.state_dict(),
            Self::Rnn(cell) => cell.state_dict(),
        }
    }

    fn forward(
        &self,
        x: &Tensor<E>,
        h: Option<View<'_, E>>,
        c: Option<View<'_, E>>,
    ) -> (Tensor<E>, Option<Tensor<E>>) {
        match self {
            Self::Lstm(cell) => {
                let (h, c) = cell.forward(x, h.zip(c)).unwrap();
                (h, Some(c))
            }
            Self::Gru(cell) => (cell.forward(x, h).unwrap(), None),
            Self::Rnn(cell) => (cell.forward(x, h).unwrap(), None),
        }
    }
}

fn check_cell<E: Number>(case: &Case) {
    let mut cell = AnyCell::<E>::new(case);
    cell.load(&dict(&case.parameters));
    let [h_0, c_0] = ["h_0", "c_0"].map(|name| case.inputs.get(name).map(tensor::<E>));
    let (h, c) = cell.forward(&tensor(&case.inputs["input"]), view(&h_0), view(&c_0));
    compare(case, "h_n", &h);
    if let Some(c) = &c {
        compare(case, "c_n", c);
    }
}

/// One test for cells and seeds: both use the process's generator.
#[test]
fn cells_and_seeds() {
    let cases = cases();
    for case in cases.iter().filter(|case| case.kind == Kind::Cell) {
        match case.dtype {
            Dtype::F32 => check_cell::<f32>(case),
            _ => check_cell::<f64>(case),
        }
    }
    for case in cases.iter().filter(|case| case.kind == Kind::Seed) {
        // A case without a seed goes on where the one before it, in order, left the generator.
        if let Some(seed) = case.seed {
            manual_seed(seed);
        }
        match case.dtype {
            Dtype::F32 => check_seed::<f32>(case),
            _ => check_seed::<f64>(case),
        }
    }
}

fn check_seed<E: Number>(case: &Case) {
    let got = match case.function.as_str() {
        "cell" => AnyCell::<E>::new(case).state_dict(),
        _ => RnnBase::<E>::new(config(case)).unwrap().state_dict(),
    };
    assert_eq!(got, dict::<E>(&case.outputs), "{}", case.name);
}

/// The packed sequence among a case's inputs.
fn packed(case: &Case) -> PackedSequence<f32> {
    let sorted = case.inputs.get("sorted_indices").map(fixtures::Tensor::sizes);
    let data = tensor(&case.inputs["data"]);
    PackedSequence::new(data, case.inputs["batch_sizes"].sizes(), sorted).unwrap()
}

/// Compares a packed sequence with the one among a case's outputs.
fn compare_packed(case: &Case, got: &PackedSequence<f32>) {
    assert_eq!(got.data(), &tensor(&case.outputs["data"]), "{}", case.name);
    assert_eq!(got.batch_sizes(), case.outputs["batch_sizes"].sizes(), "{}", case.name);
    for (name, got) in
        [("sorted_indices", got.sorted_indices()), ("unsorted_indices", got.unsorted_indices())]
    {
        let want = case.outputs.get(name).map(fixtures::Tensor::sizes);
        assert_eq!(got, want.as_deref(), "{}: {name}", case.name);
    }
}

#[test]
fn packing_functions() {
    for case in cases().iter().filter(|case| case.kind == Kind::Packing) {
        let lengths = case.lengths.as_deref().unwrap_or_default();
        let input = || tensor::<f32>(&case.inputs["input"]);
        let sequences: Vec<Tensor<f32>> =
            case.inputs.numbered("sequence").into_iter().map(tensor).collect();
        let views: Vec<View<'_, f32>> = sequences.iter().map(View::from).collect();
        let compare_list = |got: Vec<Tensor<f32>>| {
            let want: Vec<Tensor<f32>> =
                case.outputs.numbered("sequence").into_iter().map(tensor).collect();
            assert_eq!(got, want, "{}", case.name);
        };
        match case.function.as_str() {
            "pack_padded_sequence" => {
                let got =
                    pack_padded_sequence(&input(), lengths, case.batch_first, case.enforce_sorted);
                compare_packed(case, &got.unwrap());
            }
            "pack_sequence" => {
                compare_packed(case, &pack_sequence(&views, case.enforce_sorted).unwrap());
            }
            "pad_packed_sequence" => {
                let value = case.padding_value as f32;
                let (output, lengths) =
                    pad_packed_sequence(&packed(case), case.batch_first, value, case.total_length)
                        .unwrap();
                assert_eq!(output, tensor(&case.outputs["output"]), "{}", case.name);
                assert_eq!(lengths, case.outputs["lengths"].sizes(), "{}", case.name);
            }
            "pad_sequence" => {
                let side = match case.padding_side {
                    fixtures::PaddingSide::Left => PaddingSide::Left,
                    fixtures::PaddingSide::Right => PaddingSide::Right,
                };
                let value = case.padding_value as f32;
                let got = pad_sequence(&views, case.batch_first, value, side).unwrap();
                assert_eq!(got, tensor(&case.outputs["output"]), "{}", case.name);
            }
            "unpad_sequence" => {
                compare_list(unpad_sequence(&input(), lengths, case.batch_first).unwrap());
            }
            "unpack_sequence" => compare_list(unpack_sequence(&packed(case)).unwrap()),
            other => panic!("{}: unknown function {other}", case.name),
        }
    }
}

/// The first draw of a layer of PyTorch's default seed, through the builders.
#[test]
fn builders_make_the_layers_they_name() {
    let mut generator = Generator::manual_seed(3);
    let lstm = tidegate::Lstm::<f32>::builder(3, 4)
        .num_layers(2)
        .bias(false)
        .batch_first(true)
        .dropout(0.25)
        .bidirectional(true)
        .proj_size(2)
        .build_with(&mut generator)
        .unwrap();
    let config = Config {
        num_layers: 2,
        bias: false,
        batch_first: true,
        dropout: 0.25,
        bidirectional: true,
        proj_size: 2,
        ..Config::new(Mode::Lstm, 3, 4)
    };
    assert_eq!(*lstm.config(), config);
    let same = RnnBase::with_generator(config, &mut Generator::manual_seed(3)).unwrap();
    assert_eq!(lstm.state_dict(), same.state_dict());
    let rnn = tidegate::Rnn::<f64>::builder(3, 4).nonlinearity(Nonlinearity::Relu).build().unwrap();
    assert_eq!(rnn.config().mode, Mode::RnnRelu);
}
