//! The definition: PyTorch's recurrent layers in f64, written to be read.
//!
//! One step of one cell is in [`lstm`], [`gru`] and [`elman`]; [`forward`] walks them over time, directions and
//! layers, [`backward`] back again. Everything else in this project is compared with this crate, so it is as plain as it can be: no cleverness,
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

mod backward;
mod cell;

use std::collections::BTreeMap;

pub use backward::{Gradients, Upstream, backward};
pub use cell::*;

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

    /// Inputs of a layer: I, or D*P above the first.
    pub fn inputs(&self, layer: usize) -> usize {
        if layer == 0 { self.input_size } else { self.num_directions() * self.output_size() }
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
    /// `[T, B]`: where true, the sequence is cut before that step, as if another began there: the forward direction
    /// enters the step, and the reverse direction leaves it, with the reset states.
    pub resets: Option<&'a [bool]>,
    /// `[L*D, B, P]`: h after a cut; zeros if absent.
    pub reset_h: Option<&'a [f64]>,
    /// `[L*D, B, H]`: c after a cut; zeros if absent.
    pub reset_c: Option<&'a [f64]>,
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
    trace(spec, parameters, call).0
}

/// One step of one row in one direction of one layer, as it went.
#[derive(Clone, Debug)]
struct Step {
    direction: usize,
    row: usize,
    t: usize,
    /// Whether the state came from a reset and not from the step before.
    reset: bool,
    /// h `[P]` and c `[H]` that entered.
    h: Vec<f64>,
    c: Vec<f64>,
    /// W_ih x + b_ih and W_hh h + b_hh.
    a: Vec<f64>,
    b: Vec<f64>,
    /// h' before projection, `[H]`.
    new: Vec<f64>,
}

/// A layer as it went: its input `[T, B, inputs]`, and its steps in the order of computation.
struct Trace {
    input: Vec<f64>,
    steps: Vec<Step>,
}

/// Runs the layers over all steps, and tells how each went.
fn trace(spec: &Spec, parameters: &Parameters, call: &Call<'_>) -> (Answer, Vec<Trace>) {
    let (steps, batch, width, units) =
        (call.steps, call.batch, spec.output_size(), spec.hidden_size);
    let directions = spec.num_directions();
    let states = spec.num_layers * directions;
    check("x", call.x.len(), steps * batch * spec.input_size);
    let cells = if spec.mode == Mode::Lstm { states * batch * units } else { 0 };
    let mut h_n = state("h_0", call.h_0, states * batch * width);
    let mut c_n = state("c_0", call.c_0, cells);
    let reset_h = state("reset_h", call.reset_h, states * batch * width);
    let reset_c = state("reset_c", call.reset_c, cells);
    let mut output = call.x.to_vec();
    let mut layers = Vec::new();
    for layer in 0..spec.num_layers {
        let input = core::mem::replace(&mut output, vec![0.0; steps * batch * directions * width]);
        let inputs = spec.inputs(layer);
        let mut trace = Vec::new();
        for direction in 0..directions {
            let weights = Weights::new(spec, parameters, layer, direction);
            for row in 0..batch {
                let place = (layer * directions + direction) * batch + row;
                let of_h = place * width..(place + 1) * width;
                let of_c = if cells > 0 { place * units..(place + 1) * units } else { 0..0 };
                let (h, c) = (&mut h_n[of_h.clone()], &mut c_n[of_c.clone()]);
                for t in call.times(row, direction) {
                    let reset = call.is_cut(row, direction, t);
                    if reset {
                        h.copy_from_slice(&reset_h[of_h.clone()]);
                        c.copy_from_slice(&reset_c[of_c.clone()]);
                    }
                    let before = (h.to_vec(), c.to_vec());
                    let x = &input[(t * batch + row) * inputs..][..inputs];
                    let (a, b, new) = weights.step(x, h, c);
                    output[((t * batch + row) * directions + direction) * width..][..width]
                        .copy_from_slice(h);
                    trace.push(Step {
                        direction,
                        row,
                        t,
                        reset,
                        h: before.0,
                        c: before.1,
                        a,
                        b,
                        new,
                    });
                }
            }
        }
        layers.push(Trace { input, steps: trace });
        if let Some(mask) = call.mask(spec, layer) {
            output.iter_mut().zip(mask).for_each(|(value, mask)| *value *= mask);
        }
    }
    (Answer { output, h_n, c_n }, layers)
}

impl Call<'_> {
    /// The steps of `row` in the order of computation.
    fn times(&self, row: usize, direction: usize) -> Vec<usize> {
        let length = self.lengths.map_or(self.steps, |lengths| {
            check("lengths", lengths.len(), self.batch);
            lengths[row]
        });
        assert!(length <= self.steps, "length {length} of row {row} is above {}", self.steps);
        if direction == 0 { (0..length).collect() } else { (0..length).rev().collect() }
    }

    /// Whether a cut lies between the step of `row` at `t` and the one that was computed before it.
    fn is_cut(&self, row: usize, direction: usize, t: usize) -> bool {
        let Some(resets) = self.resets else { return false };
        check("resets", resets.len(), self.steps * self.batch);
        let last = self.times(row, 0).len() - 1;
        match direction {
            0 => resets[t * self.batch + row],
            _ => t < last && resets[(t + 1) * self.batch + row],
        }
    }

    /// What the output of `layer` is multiplied by.
    fn mask(&self, spec: &Spec, layer: usize) -> Option<&[f64]> {
        let len = self.steps * self.batch * spec.num_directions() * spec.output_size();
        let masks = self.masks.filter(|_| layer + 1 < spec.num_layers)?;
        check("masks", masks.len(), (spec.num_layers - 1) * len);
        Some(&masks[layer * len..][..len])
    }
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
    fn new(spec: &Spec, parameters: &'a Parameters, layer: usize, direction: usize) -> Self {
        let inputs = spec.inputs(layer);
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

    /// One step of one row: x `[I]`, h `[P]` and c `[H]` become the new h and c. Returns W_ih x + b_ih, W_hh h + b_hh
    /// and h' before projection.
    fn step(&self, x: &[f64], h: &mut [f64], c: &mut [f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
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
        (a, b, new)
    }
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
