//! The way back: the derivatives of a loss by everything that entered [`forward`](crate::forward).

use std::collections::BTreeMap;

use crate::{
    Call, GateGradients, Mode, Parameters, Spec, Step, Weights, elman_backward, gru_backward,
    lstm_backward, state, trace,
};

/// The derivatives of the loss by the results; zeros where absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upstream<'a> {
    /// `[T, B, D*P]`; what is beyond a row's length does not count.
    pub output: Option<&'a [f64]>,
    /// `[L*D, B, P]`.
    pub h_n: Option<&'a [f64]>,
    /// `[L*D, B, H]`.
    pub c_n: Option<&'a [f64]>,
}

/// The derivatives of the loss by the arguments.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// `[T, B, I]`.
    pub x: Vec<f64>,
    /// `[L*D, B, P]`.
    pub h_0: Vec<f64>,
    /// `[L*D, B, H]`; empty without a cell state.
    pub c_0: Vec<f64>,
    /// `[L*D, B, P]`.
    pub reset_h: Vec<f64>,
    /// `[L*D, B, H]`; empty without a cell state.
    pub reset_c: Vec<f64>,
    /// As the parameters.
    pub parameters: Parameters,
}

/// Runs [`forward`](crate::forward) and then back from the last step of the last layer to the first of the first.
///
/// # Panics
/// As [`forward`](crate::forward).
pub fn backward(
    spec: &Spec,
    parameters: &Parameters,
    call: &Call<'_>,
    upstream: &Upstream<'_>,
) -> Gradients {
    let (answer, traces) = trace(spec, parameters, call);
    let (batch, width, units) = (call.batch, spec.output_size(), spec.hidden_size);
    let directions = spec.num_directions();
    let mut gradients = Gradients {
        x: Vec::new(),
        h_0: state("d_h_n", upstream.h_n, answer.h_n.len()),
        c_0: state("d_c_n", upstream.c_n, answer.c_n.len()),
        reset_h: vec![0.0; answer.h_n.len()],
        reset_c: vec![0.0; answer.c_n.len()],
        parameters: parameters.iter().map(|(name, w)| (name.clone(), vec![0.0; w.len()])).collect(),
    };
    let mut d_output = state("d_output", upstream.output, answer.output.len());
    for (layer, trace) in traces.iter().enumerate().rev() {
        if let Some(mask) = call.mask(spec, layer) {
            d_output.iter_mut().zip(mask).for_each(|(d, mask)| *d *= mask);
        }
        let inputs = spec.inputs(layer);
        let mut d_input = vec![0.0; trace.input.len()];
        for step in trace.steps.iter().rev() {
            let &Step { direction, row, t, .. } = step;
            let place = (layer * directions + direction) * batch + row;
            let of_h = place * width..(place + 1) * width;
            let of_c =
                if answer.c_n.is_empty() { 0..0 } else { place * units..(place + 1) * units };
            let (d_h, d_c) = (&mut gradients.h_0[of_h.clone()], &mut gradients.c_0[of_c.clone()]);
            add(d_h, &d_output[((t * batch + row) * directions + direction) * width..][..width]);
            let of_x = (t * batch + row) * inputs..(t * batch + row + 1) * inputs;
            StepBack {
                spec,
                weights: &Weights::new(spec, parameters, layer, direction),
                end: format!("l{layer}{}", if direction == 0 { "" } else { "_reverse" }),
                step,
                x: &trace.input[of_x.clone()],
            }
            .run(d_h, d_c, &mut d_input[of_x], &mut gradients.parameters);
            if step.reset {
                // What entered the step came from the reset states, and nothing from the step before.
                add(&mut gradients.reset_h[of_h], d_h);
                add(&mut gradients.reset_c[of_c], d_c);
                d_h.fill(0.0);
                d_c.fill(0.0);
            }
        }
        d_output = d_input;
    }
    gradients.x = d_output;
    gradients
}

/// One step to go back.
struct StepBack<'a> {
    spec: &'a Spec,
    weights: &'a Weights<'a>,
    /// How the names of its parameters end.
    end: String,
    step: &'a Step,
    x: &'a [f64],
}

impl StepBack<'_> {
    /// `d_h` and `d_c` by what left the step become those by what entered it; `d_x` and the parameters' are added to.
    fn run(&self, d_h: &mut [f64], d_c: &mut [f64], d_x: &mut [f64], parameters: &mut Parameters) {
        let Self { step, weights, .. } = self;
        let mut d_new = d_h.to_vec();
        if let Some(w_hr) = weights.w_hr {
            d_new = vec![0.0; step.new.len()];
            transposed(w_hr, d_h, &mut d_new);
            outer(d_h, &step.new, self.of(parameters, "weight_hr"));
        }
        let (a, b) = (&step.a, &step.b);
        let gates = match self.spec.mode {
            Mode::Lstm => lstm_backward(a, b, &step.c, &d_new, d_c),
            Mode::Gru => gru_backward(a, b, &step.h, &mut d_new),
            Mode::RnnTanh => elman_backward(&step.new, &d_new, |h| 1.0 - h * h),
            Mode::RnnRelu => elman_backward(&step.new, &d_new, |h| if h > 0.0 { 1.0 } else { 0.0 }),
        };
        // Only a GRU's h reaches the next one beside the gates.
        match self.spec.mode {
            Mode::Gru => d_h.copy_from_slice(&d_new),
            _ => d_h.fill(0.0),
        }
        let GateGradients { a: d_a, b: d_b } = gates;
        transposed(weights.w_hh, &d_b, d_h);
        transposed(weights.w_ih, &d_a, d_x);
        outer(&d_a, self.x, self.of(parameters, "weight_ih"));
        outer(&d_b, &step.h, self.of(parameters, "weight_hh"));
        if self.spec.bias {
            add(self.of(parameters, "bias_ih"), &d_a);
            add(self.of(parameters, "bias_hh"), &d_b);
        }
    }

    fn of<'p>(&self, parameters: &'p mut BTreeMap<String, Vec<f64>>, name: &str) -> &'p mut [f64] {
        parameters.get_mut(&format!("{name}_{}", self.end)).expect("forward has used it")
    }
}

/// to += from.
fn add(to: &mut [f64], from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// to += W^T v, W `[v.len(), to.len()]`.
fn transposed(w: &[f64], v: &[f64], to: &mut [f64]) {
    for (row, v) in w.chunks(to.len().max(1)).zip(v) {
        row.iter().zip(&mut *to).for_each(|(w, to)| *to += w * v);
    }
}

/// to += u v^T, to `[u.len(), v.len()]`.
fn outer(u: &[f64], v: &[f64], to: &mut [f64]) {
    for (row, u) in to.chunks_mut(v.len().max(1)).zip(u) {
        row.iter_mut().zip(v).for_each(|(to, v)| *to += u * v);
    }
}
