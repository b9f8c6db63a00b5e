//! Random calls of random layers.

use tidegate_reference::{Call, Mode, Parameters, Spec};
use tidegate_testing::random::Random;

/// A layer and the arguments of a call, all random.
pub(crate) struct Example {
    pub(crate) spec: Spec,
    pub(crate) parameters: Parameters,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) x: Vec<f64>,
    pub(crate) h_0: Vec<f64>,
    pub(crate) c_0: Vec<f64>,
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) resets: Option<Vec<bool>>,
    pub(crate) reset_h: Option<Vec<f64>>,
    pub(crate) reset_c: Option<Vec<f64>>,
    pub(crate) masks: Option<Vec<f64>>,
}

impl Example {
    pub(crate) fn new(random: &mut Random) -> Self {
        let mode = *random.pick(&[Mode::Lstm, Mode::Lstm, Mode::Gru, Mode::RnnTanh, Mode::RnnRelu]);
        let hidden_size = random.between(1, 3);
        let projects = mode == Mode::Lstm && hidden_size > 1 && random.flip();
        let spec = Spec {
            mode,
            input_size: random.between(1, 3),
            hidden_size,
            num_layers: random.between(1, 3),
            bias: random.flip(),
            bidirectional: random.flip(),
            proj_size: if projects { random.between(1, hidden_size - 1) } else { 0 },
        };
        let (steps, batch) = (random.between(1, 4), random.between(1, 3));
        let (width, directions) = (spec.output_size(), spec.num_directions());
        let states = spec.num_layers * directions * batch;
        let cells = if mode == Mode::Lstm { states * hidden_size } else { 0 };
        let between = (spec.num_layers - 1) * steps * batch * directions * width;
        let mut given = |len: usize| random.flip().then(|| random.vec(len, -1.0, 1.0));
        let (reset_h, reset_c) = (given(states * width), given(cells));
        Self {
            parameters: random_parameters(&spec, random),
            x: random.vec(steps * batch * spec.input_size, -2.0, 2.0),
            h_0: random.vec(states * width, -1.0, 1.0),
            c_0: random.vec(cells, -1.0, 1.0),
            lengths: random.flip().then(|| (0..batch).map(|_| random.between(0, steps)).collect()),
            resets: random.flip().then(|| (0..steps * batch).map(|_| random.flip()).collect()),
            reset_h,
            reset_c,
            masks: random.flip().then(|| random.vec(between, 0.0, 2.0)),
            spec,
            steps,
            batch,
        }
    }

    pub(crate) fn call(&self) -> Call<'_> {
        Call {
            steps: self.steps,
            batch: self.batch,
            x: &self.x,
            h_0: Some(&self.h_0),
            c_0: Some(&self.c_0),
            lengths: self.lengths.as_deref(),
            resets: self.resets.as_deref(),
            reset_h: self.reset_h.as_deref(),
            reset_c: self.reset_c.as_deref(),
            masks: self.masks.as_deref(),
        }
    }
}

/// Parameters between -1 and 1.
pub(crate) fn random_parameters(spec: &Spec, random: &mut Random) -> Parameters {
    let (rows, width) = (spec.mode.gates() * spec.hidden_size, spec.output_size());
    let mut parameters = Parameters::new();
    for layer in 0..spec.num_layers {
        for end in ["", "_reverse"].iter().take(spec.num_directions()) {
            let mut add = |name: &str, len| {
                parameters.insert(format!("{name}_l{layer}{end}"), random.vec(len, -1.0, 1.0));
            };
            add("weight_ih", rows * spec.inputs(layer));
            add("weight_hh", rows * width);
            if spec.bias {
                add("bias_ih", rows);
                add("bias_hh", rows);
            }
            if spec.proj_size > 0 {
                add("weight_hr", width * spec.hidden_size);
            }
        }
    }
    parameters
}
