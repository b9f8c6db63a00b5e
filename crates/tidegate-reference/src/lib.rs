//! The definition: PyTorch's recurrent layers in f64, written to be read.
//!
//! One step of one cell is in [`lstm`], [`gru`] and [`elman`]; [`forward`] walks them over time, directions and
//! layers. Everything else in this project is compared with this file, so it is as plain as it can be: no cleverness,
//! no speed, no dependency on the code that it judges. Source: the documentation of `torch.nn.LSTM`, `GRU` and `RNN`.
//!
//! T steps, B rows, I inputs, H units, P width of h, D directions. All arrays are row-major.
//!
//! ```
//! use tidegate_reference::{Call, Mode, Parameters, Spec, forward};
//! let spec = Spec { mode: Mode::RnnRelu, input_size: 1, hidden_size: 1, ..Spec::default() };
//! let mut parameters = Parameters::new();
//! parameters.insert("weight_ih_l0".into(), vec![1.0]);
//! parameters.insert("weight_hh_l0".into(), vec![0.5]);
//! parameters.insert("bias_ih_l0".into(), vec![0.0]);
//! parameters.insert("bias_hh_l0".into(), vec![0.0]);
//! // h = relu(x + 0.5 h) over 3 steps of one row
//! let call = Call { steps: 3, batch: 1, x: &[1.0, 2.0, 4.0], ..Call::default() };
//! assert_eq!(forward(&spec, &parameters, &call).output, [1.0, 2.5, 5.25]);
//! ```

use std::collections::BTreeMap;

/// Which equations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// [`lstm`], gates i, f, g, o.
    Lstm,
    /// [`gru`], gates r, z, n.
    Gru,
    /// [`elman`] with tanh.
    RnnTanh,
    /// [`elman`] with relu.
    RnnRelu,
}

impl Mode {
    /// Rows of the weights are this many times H.
    pub fn gates(self) -> usize {
        match self {
            Mode::Lstm => 4,
            Mode::Gru => 3,
            Mode::RnnTanh | Mode::RnnRelu => 1,
        }
    }
}

/// The constructor's arguments that change the numbers.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The cell.
    pub mode: Mode,
    /// I.
    pub input_size: usize,
    /// H.
    pub hidden_size: usize,
    /// How many layers, one above the other.
    pub num_layers: usize,
    /// With bias vectors.
    pub bias: bool,
    /// With a second direction from the end to the start.
    pub bidirectional: bool,
    /// P, or 0 for none.
    pub proj_size: usize,
}

impl Default for Spec {
    /// An LSTM of one layer and one unit, with bias.
    fn default() -> Self {
        Self {
            mode: Mode::Lstm,
            input_size: 1,
            hidden_size: 1,
            num_layers: 1,
            bias: true,
            bidirectional: false,
            proj_size: 0,
        }
    }
}

impl Spec {
    /// P: the width of h.
    pub fn output_size(&self) -> usize {
        if self.proj_size > 0 { self.proj_size } else { self.hidden_size }
    }

    /// D: 1 or 2.
    pub fn num_directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }
}

/// Flat parameters under PyTorch's names: `weight_ih_l0 [G*H, I]`, `weight_hh_l0 [G*H, P]`, `bias_ih_l0 [G*H]`,
/// `bias_hh_l0 [G*H]`, `weight_hr_l0 [P, H]`, and so on for each layer and `_reverse`.
pub type Parameters = BTreeMap<String, Vec<f64>>;

/// The arguments of [`forward`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Call<'a> {
    /// T.
    pub steps: usize,
    /// B.
    pub batch: usize,
    /// `[T, B, I]`.
    pub x: &'a [f64],
    /// `[L*D, B, P]`; zeros if absent.
    pub h_0: Option<&'a [f64]>,
    /// `[L*D, B, H]`; zeros if absent.
    pub c_0: Option<&'a [f64]>,
    /// `[B]`, each 0 to T: a row ends there, and its reverse direction starts there. T if absent.
    pub lengths: Option<&'a [usize]>,
    /// `[L-1, T, B, D*P]`: the output of layer l is multiplied by mask l before it enters layer l+1, which is dropout.
    pub masks: Option<&'a [f64]>,
}

/// The result of [`forward`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// `[T, B, D*P]`; 0 beyond a row's length.
    pub output: Vec<f64>,
    /// `[L*D, B, P]`: each row's h after its own last step; its initial state if it has no step.
    pub h_n: Vec<f64>,
    /// `[L*D, B, H]`, likewise; empty without a cell state.
    pub c_n: Vec<f64>,
}

/// Runs the layers over all steps.
///
/// # Panics
/// If a parameter is missing or an array does not have the size its documentation says.
pub fn forward(spec: &Spec, parameters: &Parameters, call: &Call<'_>) -> Answer {
    let (steps, batch, width) = (call.steps, call.batch, spec.output_size());
    let directions = spec.num_directions();
    let states = spec.num_layers * directions;
    check("x", call.x.len(), steps * batch * spec.input_size);
    let lengths = call.lengths.map_or(vec![steps; batch], <[usize]>::to_vec);
    check("lengths", lengths.len(), batch);
    assert!(lengths.iter().all(|&length| length <= steps), "a length is above {steps}");

    let mut h_n = state("h_0", call.h_0, states * batch * width);
    let mut c_n = match spec.mode {
        Mode::Lstm => state("c_0", call.c_0, states * batch * spec.hidden_size),
        _ => Vec::new(),
    };
    let mut input = call.x.to_vec();
    let mut output = Vec::new();
    for layer in 0..spec.num_layers {
        let inputs = if layer == 0 { spec.input_size } else { directions * width };
        output = vec![0.0; steps * batch * directions * width];
        for direction in 0..directions {
            let weights = Weights::new(spec, parameters, layer, direction, inputs);
            for (row, &length) in lengths.iter().enumerate() {
                let place = (layer * directions + direction) * batch + row;
                let h = &mut h_n[place * width..][..width];
                let c = match spec.mode {
                    Mode::Lstm => &mut c_n[place * spec.hidden_size..][..spec.hidden_size],
                    _ => &mut [][..],
                };
                for step in 0..length {
                    let t = if direction == 0 { step } else { length - 1 - step };
                    weights.step(&input[(t * batch + row) * inputs..][..inputs], h, c);
                    output[((t * batch + row) * directions + direction) * width..][..width]
                        .copy_from_slice(h);
                }
            }
        }
        input.clone_from(&output);
        if let Some(masks) = call.masks.filter(|_| layer + 1 < spec.num_layers) {
            check("masks", masks.len(), (spec.num_layers - 1) * output.len());
            let mask = &masks[layer * output.len()..][..output.len()];
            input.iter_mut().zip(mask).for_each(|(value, mask)| *value *= mask);
        }
    }
    Answer { output, h_n, c_n }
}

/// The parameters of one layer and direction.
struct Weights<'a> {
    mode: Mode,
    w_ih: &'a [f64],
    w_hh: &'a [f64],
    /// Zeros without bias.
    b_ih: Vec<f64>,
    b_hh: Vec<f64>,
    /// W_hr, if there is a projection.
    w_hr: Option<&'a [f64]>,
}

impl<'a> Weights<'a> {
    fn new(
        spec: &Spec,
        parameters: &'a Parameters,
        layer: usize,
        direction: usize,
        inputs: usize,
    ) -> Self {
        let (rows, width) = (spec.mode.gates() * spec.hidden_size, spec.output_size());
        let end = if direction == 0 { "" } else { "_reverse" };
        let get = |name: &str, len: usize| {
            let name = format!("{name}_l{layer}{end}");
            let values = parameters.get(&name).unwrap_or_else(|| panic!("no parameter {name}"));
            check(&name, values.len(), len);
            &values[..]
        };
        let bias = |name: &str| if spec.bias { get(name, rows).to_vec() } else { vec![0.0; rows] };
        Self {
            mode: spec.mode,
            w_ih: get("weight_ih", rows * inputs),
            w_hh: get("weight_hh", rows * width),
            b_ih: bias("bias_ih"),
            b_hh: bias("bias_hh"),
            w_hr: (spec.proj_size > 0).then(|| get("weight_hr", width * spec.hidden_size)),
        }
    }

    /// One step of one row: x `[I]`, h `[P]` and c `[H]` become the new h and c.
    fn step(&self, x: &[f64], h: &mut [f64], c: &mut [f64]) {
        let a = affine(self.w_ih, x, &self.b_ih);
        let b = affine(self.w_hh, h, &self.b_hh);
        let new = match self.mode {
            Mode::Lstm => lstm(&a, &b, c),
            Mode::Gru => gru(&a, &b, h),
            Mode::RnnTanh => elman(&a, &b, f64::tanh),
            Mode::RnnRelu => elman(&a, &b, relu),
        };
        match self.w_hr {
            Some(w_hr) => h.copy_from_slice(&affine(w_hr, &new, &vec![0.0; h.len()])),
            None => h.copy_from_slice(&new),
        }
    }
}

/// One step of the LSTM. `a` = W_ih x + b_ih and `b` = W_hh h + b_hh hold the gates i, f, g, o, H of each.
///
/// ```text
/// i = sigmoid(a_i + b_i)    f = sigmoid(a_f + b_f)    g = tanh(a_g + b_g)    o = sigmoid(a_o + b_o)
/// c' = f * c + i * g
/// h' = o * tanh(c')
/// ```
///
/// Returns h' before any projection; `c` becomes c'.
pub fn lstm(a: &[f64], b: &[f64], c: &mut [f64]) -> Vec<f64> {
    let units = c.len();
    let gate = |g: usize, j: usize| a[g * units + j] + b[g * units + j];
    let unit = |(j, c): (usize, &mut f64)| {
        let i = sigmoid(gate(0, j));
        let f = sigmoid(gate(1, j));
        let g = gate(2, j).tanh();
        let o = sigmoid(gate(3, j));
        *c = f * *c + i * g;
        o * c.tanh()
    };
    c.iter_mut().enumerate().map(unit).collect()
}

/// One step of the GRU. `a` = W_ih x + b_ih and `b` = W_hh h + b_hh hold the gates r, z, n, H of each.
///
/// ```text
/// r = sigmoid(a_r + b_r)    z = sigmoid(a_z + b_z)    n = tanh(a_n + r * b_n)
/// h' = (1 - z) * n + z * h
/// ```
///
/// Returns h'.
pub fn gru(a: &[f64], b: &[f64], h: &[f64]) -> Vec<f64> {
    let units = h.len();
    let gate = |g: usize, j: usize| (a[g * units + j], b[g * units + j]);
    let unit = |(j, h): (usize, &f64)| {
        let ((a_r, b_r), (a_z, b_z), (a_n, b_n)) = (gate(0, j), gate(1, j), gate(2, j));
        let r = sigmoid(a_r + b_r);
        let z = sigmoid(a_z + b_z);
        let n = (a_n + r * b_n).tanh();
        (1.0 - z) * n + z * h
    };
    h.iter().enumerate().map(unit).collect()
}

/// One step of Elman's network. `a` = W_ih x + b_ih and `b` = W_hh h + b_hh.
///
/// ```text
/// h' = activation(a + b)
/// ```
///
/// Returns h'.
pub fn elman(a: &[f64], b: &[f64], activation: fn(f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| activation(a + b)).collect()
}

/// 1 / (1 + exp(-x)).
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// max(x, 0), and NaN for NaN.
pub fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// W v + bias, W `[bias.len(), v.len()]`.
fn affine(w: &[f64], v: &[f64], bias: &[f64]) -> Vec<f64> {
    let row = |(i, bias): (usize, &f64)| {
        bias + w[i * v.len()..][..v.len()].iter().zip(v).map(|(w, v)| w * v).sum::<f64>()
    };
    bias.iter().enumerate().map(row).collect()
}

fn state(name: &str, given: Option<&[f64]>, len: usize) -> Vec<f64> {
    check(name, given.map_or(len, <[f64]>::len), len);
    given.map_or(vec![0.0; len], <[f64]>::to_vec)
}

fn check(name: &str, got: usize, want: usize) {
    assert_eq!(got, want, "{name} has {got} elements, not {want}");
}

#[cfg(test)]
mod tests {
    use tidegate_testing::random::Random;

    use super::*;

    fn random_parameters(spec: &Spec, random: &mut Random) -> Parameters {
        let (rows, width) = (spec.mode.gates() * spec.hidden_size, spec.output_size());
        let mut parameters = Parameters::new();
        for layer in 0..spec.num_layers {
            let inputs = if layer == 0 { spec.input_size } else { spec.num_directions() * width };
            for end in ["", "_reverse"] {
                for (name, len) in
                    [("weight_ih", rows * inputs), ("weight_hh", rows * width), ("bias_ih", rows)]
                {
                    parameters.insert(format!("{name}_l{layer}{end}"), random.vec(len, -1.0, 1.0));
                }
                parameters.insert(format!("bias_hh_l{layer}{end}"), random.vec(rows, -1.0, 1.0));
                parameters.insert(
                    format!("weight_hr_l{layer}{end}"),
                    random.vec(width * spec.hidden_size, -1.0, 1.0),
                );
            }
        }
        parameters
    }

    /// PyTorch has no rows without a step, so this is not in the fixtures.
    #[test]
    fn a_row_in_a_batch_is_the_row_alone_even_without_a_step() {
        let random = &mut Random::new(3);
        let spec = Spec {
            input_size: 3,
            hidden_size: 4,
            num_layers: 2,
            bidirectional: true,
            proj_size: 2,
            ..Spec::default()
        };
        let parameters = random_parameters(&spec, random);
        let (steps, lengths) = (5, [5, 0, 3, 1]);
        let batch = lengths.len();
        let x: Vec<f64> = random.vec(steps * batch * 3, -2.0, 2.0);
        let h_0: Vec<f64> = random.vec(4 * batch * 2, -1.0, 1.0);
        let c_0: Vec<f64> = random.vec(4 * batch * 4, -1.0, 1.0);
        let call =
            Call { steps, batch, x: &x, h_0: Some(&h_0), c_0: Some(&c_0), ..Call::default() };
        let all = forward(&spec, &parameters, &Call { lengths: Some(&lengths), ..call });
        for (row, &length) in lengths.iter().enumerate() {
            let of_row = |values: &[f64], width: usize| -> Vec<f64> {
                values.chunks(width).skip(row).step_by(batch).flatten().copied().collect()
            };
            let (x, h, c) = (of_row(&x, 3), of_row(&h_0, 2), of_row(&c_0, 4));
            let call = Call {
                steps: length,
                batch: 1,
                x: &x[..length * 3],
                h_0: Some(&h),
                c_0: Some(&c),
                ..call
            };
            let alone = forward(&spec, &parameters, &call);
            let output = of_row(&all.output, 4);
            assert_eq!(output[..length * 4], alone.output, "row {row}");
            assert!(
                output[length * 4..].iter().all(|&value| value == 0.0),
                "row {row} goes on after its end"
            );
            assert_eq!(
                (of_row(&all.h_n, 2), of_row(&all.c_n, 4)),
                (alone.h_n, alone.c_n),
                "row {row}"
            );
            assert_eq!(length == 0, of_row(&all.h_n, 2) == h, "row {row}");
        }
    }
}
