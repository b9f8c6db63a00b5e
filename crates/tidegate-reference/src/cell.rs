//! The cells: one step forward, and below it the same step backward.
//!
//! Backward, `d_v` is the derivative of the loss by `v`.

/// What a step backward returns, and beside it what it does to its arguments.
#[derive(Clone, Debug)]
pub struct GateGradients {
    /// d_a: by the gates' input halves, W_ih x + b_ih.
    pub a: Vec<f64>,
    /// d_b: by their recurrent halves, W_hh h + b_hh.
    pub b: Vec<f64>,
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

/// One step of the LSTM backward: `a`, `b` and `c` as [`lstm`] got them, `d_h` by h', `d_c` by c'.
///
/// ```text
/// d_c' += d_h' o (1 - tanh(c')^2)
/// d_i = d_c' g i (1 - i)    d_f = d_c' c f (1 - f)    d_g = d_c' i (1 - g^2)    d_o = d_h' tanh(c') o (1 - o)
/// d_c = d_c' f
/// ```
///
/// Returns the gates' derivatives, the same by both halves; `d_c` becomes the one by c.
pub fn lstm_backward(
    a: &[f64],
    b: &[f64],
    c: &[f64],
    d_h: &[f64],
    d_c: &mut [f64],
) -> GateGradients {
    let units = c.len();
    let gate = |g: usize, j: usize| a[g * units + j] + b[g * units + j];
    let mut gates = vec![0.0; 4 * units];
    for j in 0..units {
        let (i, f) = (sigmoid(gate(0, j)), sigmoid(gate(1, j)));
        let (g, o) = (gate(2, j).tanh(), sigmoid(gate(3, j)));
        let tanh_c = (f * c[j] + i * g).tanh();
        let d = d_c[j] + d_h[j] * o * (1.0 - tanh_c * tanh_c);
        gates[j] = d * g * i * (1.0 - i);
        gates[units + j] = d * c[j] * f * (1.0 - f);
        gates[2 * units + j] = d * i * (1.0 - g * g);
        gates[3 * units + j] = d_h[j] * tanh_c * o * (1.0 - o);
        d_c[j] = d * f;
    }
    GateGradients { a: gates.clone(), b: gates }
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

/// One step of the GRU backward: `a`, `b` and `h` as [`gru`] got them, `d_h` by h'.
///
/// ```text
/// d_z = d_h' (h - n) z (1 - z)    d_n = d_h' (1 - z) (1 - n^2)    d_r = d_n b_n r (1 - r)
/// d_a_n = d_n    d_b_n = d_n r
/// d_h = d_h' z + what comes through the gates
/// ```
///
/// Returns the gates' derivatives; `d_h` becomes d_h' z.
pub fn gru_backward(a: &[f64], b: &[f64], h: &[f64], d_h: &mut [f64]) -> GateGradients {
    let units = h.len();
    let (mut d_a, mut d_b) = (vec![0.0; 3 * units], vec![0.0; 3 * units]);
    for j in 0..units {
        let (r_at, z_at, n_at) = (j, units + j, 2 * units + j);
        let r = sigmoid(a[r_at] + b[r_at]);
        let z = sigmoid(a[z_at] + b[z_at]);
        let n = (a[n_at] + r * b[n_at]).tanh();
        let d_n = d_h[j] * (1.0 - z) * (1.0 - n * n);
        d_a[r_at] = d_n * b[n_at] * r * (1.0 - r);
        d_a[z_at] = d_h[j] * (h[j] - n) * z * (1.0 - z);
        (d_b[r_at], d_b[z_at]) = (d_a[r_at], d_a[z_at]);
        (d_a[n_at], d_b[n_at]) = (d_n, d_n * r);
        d_h[j] *= z;
    }
    GateGradients { a: d_a, b: d_b }
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

/// One step of Elman's network backward: `h` as [`elman`] returned it, `d_h` by it, and the
/// derivative of the activation in terms of its result.
///
/// Returns the gates' derivatives, the same by both halves.
pub fn elman_backward(h: &[f64], d_h: &[f64], derivative: fn(f64) -> f64) -> GateGradients {
    let gates: Vec<f64> = h.iter().zip(d_h).map(|(h, d_h)| d_h * derivative(*h)).collect();
    GateGradients { a: gates.clone(), b: gates }
}

/// 1 / (1 + exp(-x)).
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// max(x, 0), and NaN for NaN.
pub fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}
