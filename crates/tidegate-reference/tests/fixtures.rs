//! The definition gives PyTorch's answers in double, for every element of every fixture.

use tidegate_reference::{Answer, Call, Mode, Parameters, Spec, Upstream, backward, forward};
use tidegate_testing::close::{Tolerance, assert_close};
use tidegate_testing::fixtures::{self, Case, Kind, Tensor};

/// Two computations in f64 that differ in the order of sums of up to 257 products, over up to 1000 steps, and in the
/// last bits of exp and tanh. The largest difference measured is 1.9e-15 (x86-64, glibc).
const TOLERANCE: Tolerance = Tolerance::absolute(1e-12);

/// The same for values of up to 1e308.
const TOLERANCE_SPECIAL: Tolerance = Tolerance::new(1e-12, 1e-12);

#[test]
fn every_layer_and_cell() {
    let cases = fixtures::cases();
    let mut compared = 0;
    for case in cases.iter().filter(|case| matches!(case.kind, Kind::Layer | Kind::Cell)) {
        let answer = forward(&spec(case), &parameters(case), &Arrays::of(case).call(case));
        compare(case, &answer);
        compared += 1;
    }
    assert!(compared >= 300, "only {compared} cases were compared");
}

/// Of the largest element of a gradient, or of 1. Measured: 1e-15 at most.
const TOLERANCE_GRADIENT: f64 = 1e-12;

#[test]
fn every_gradient() {
    let cases = fixtures::cases();
    let mut compared = 0;
    for case in cases.iter().filter(|case| case.kind == Kind::Gradient) {
        let arrays = Arrays::of(case);
        let given = |name: &str| case.inputs.get(name).map(Tensor::to::<f64>);
        let d_output = case.inputs.get("d_output").map(|d| steps_first(case, d));
        let (d_h_n, d_c_n) = (given("d_h_n"), given("d_c_n"));
        let upstream =
            Upstream { output: d_output.as_deref(), h_n: d_h_n.as_deref(), c_n: d_c_n.as_deref() };
        let got = backward(&spec(case), &parameters(case), &arrays.call(case), &upstream);
        for name in case.outputs.iter().map(|(name, _)| name).filter(|name| !name.ends_with("_f64"))
        {
            let want = case.output_f64(name).expect("a gradient in double");
            let want = if name == "d_input" { steps_first(case, want) } else { want.to() };
            let got = match name {
                "d_input" => &got.x,
                "d_h_0" => &got.h_0,
                "d_c_0" => &got.c_0,
                name => &got.parameters[name.strip_prefix("d_").expect("a gradient")],
            };
            let largest = want.iter().fold(1.0, |most: f64, d| most.max(d.abs()));
            let tolerance = Tolerance::absolute(TOLERANCE_GRADIENT * largest);
            assert_close(&case.name, name, &[want.len()], got, &want, tolerance);
        }
        compared += 1;
    }
    assert!(compared >= 19, "only {compared} cases were compared");
}

fn spec(case: &Case) -> Spec {
    Spec {
        mode: match case.mode {
            fixtures::Mode::Lstm => Mode::Lstm,
            fixtures::Mode::Gru => Mode::Gru,
            fixtures::Mode::RnnTanh => Mode::RnnTanh,
            fixtures::Mode::RnnRelu => Mode::RnnRelu,
        },
        input_size: case.input_size,
        hidden_size: case.hidden_size,
        num_layers: case.num_layers,
        bias: case.bias,
        bidirectional: case.bidirectional,
        proj_size: case.proj_size,
    }
}

/// A cell is a layer of one step, with other names.
fn parameters(case: &Case) -> Parameters {
    let end = if case.kind == Kind::Cell { "_l0" } else { "" };
    case.parameters.iter().map(|(name, tensor)| (format!("{name}{end}"), tensor.to())).collect()
}

/// A case's arrays as the definition wants them: steps first, always with rows.
struct Arrays {
    steps: usize,
    batch: usize,
    x: Vec<f64>,
    h_0: Option<Vec<f64>>,
    c_0: Option<Vec<f64>>,
    masks: Option<Vec<f64>>,
}

impl Arrays {
    fn of(case: &Case) -> Self {
        let input = &case.inputs["input"];
        let (steps, batch) = steps_and_rows(case, input);
        let x = steps_first(case, input);
        let width = case.num_directions() * case.output_size();
        let boundaries = (case.num_layers - 1) * steps * batch * width;
        Self {
            steps,
            batch,
            x,
            h_0: case.inputs.get("h_0").map(Tensor::to),
            c_0: case.inputs.get("c_0").map(Tensor::to),
            // Dropout with probability 1 drops everything.
            masks: (case.training && case.dropout == 1.0).then(|| vec![0.0; boundaries]),
        }
    }

    fn call<'a>(&'a self, case: &'a Case) -> Call<'a> {
        Call {
            steps: self.steps,
            batch: self.batch,
            x: &self.x,
            h_0: self.h_0.as_deref(),
            c_0: self.c_0.as_deref(),
            lengths: case.lengths.as_deref(),
            masks: self.masks.as_deref(),
            ..Call::default()
        }
    }
}

/// T and B of an input or output.
fn steps_and_rows(case: &Case, tensor: &Tensor) -> (usize, usize) {
    match (case.kind, &tensor.shape[..]) {
        (Kind::Cell, [_]) => (1, 1),
        (Kind::Cell, [batch, _]) => (1, *batch),
        (_, [steps, _]) => (*steps, 1),
        (_, [batch, steps, _]) if case.batch_first => (*steps, *batch),
        (_, [steps, batch, _]) => (*steps, *batch),
        (_, shape) => panic!("{}: shape {shape:?}", case.name),
    }
}

/// `[T, B, width]`, whatever the layout.
fn steps_first(case: &Case, tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f64> = tensor.to();
    if !case.batch_first || case.unbatched {
        return values;
    }
    let (steps, batch) = steps_and_rows(case, tensor);
    let width = tensor.shape[2];
    let mut turned = Vec::with_capacity(values.len());
    for t in 0..steps {
        for row in 0..batch {
            turned.extend_from_slice(&values[(row * steps + t) * width..][..width]);
        }
    }
    turned
}

fn compare(case: &Case, answer: &Answer) {
    let tolerance = if case.special.is_some() { TOLERANCE_SPECIAL } else { TOLERANCE };
    for (name, got) in [("h_n", &answer.h_n), ("c_n", &answer.c_n)] {
        if let Some(want) = case.output_f64(name) {
            assert_close(&case.name, name, &want.shape, got, &want.to::<f64>(), tolerance);
        } else {
            assert!(got.is_empty(), "{}: PyTorch has no {name}", case.name);
        }
    }
    if case.kind == Kind::Cell {
        return;
    }
    let want = case.output_f64("output").expect("a layer has an output");
    let (steps, batch) = steps_and_rows(case, want);
    let width = case.num_directions() * case.output_size();
    let got = padded(case, &answer.output, steps, batch, width);
    assert_close(
        &case.name,
        "output",
        &[steps, batch, width],
        &got,
        &steps_first(case, want),
        tolerance,
    );
}

/// `output` cut or extended to `steps`, with the case's padding value beyond each row's length.
fn padded(case: &Case, output: &[f64], steps: usize, batch: usize, width: usize) -> Vec<f64> {
    let Some(lengths) = &case.lengths else { return output.to_vec() };
    let mut padded = vec![case.padding_value; steps * batch * width];
    for (row, &length) in lengths.iter().enumerate() {
        for t in 0..length {
            let place = (t * batch + row) * width;
            padded[place..][..width].copy_from_slice(&output[place..][..width]);
        }
    }
    padded
}
