//! Linear autoregression by least squares.

use crate::series::Examples;

/// A forecast that is a weighted sum of the values seen, and a constant.
pub(crate) struct Linear {
    weights: Vec<f64>,
}

impl Linear {
    /// The weights of the least squared error over `examples`.
    pub(crate) fn fit(examples: &Examples) -> Self {
        let size = examples.input(0).len() + 1;
        // The normal equations; a little on the diagonal keeps nearly equal neighbours apart.
        let mut matrix = vec![vec![0.0; size]; size];
        let mut right = vec![0.0; size];
        for (k, input) in examples.inputs().enumerate() {
            let row: Vec<f64> = input.iter().map(|&v| f64::from(v)).chain([1.0]).collect();
            for i in 0..size {
                for j in 0..size {
                    matrix[i][j] += row[i] * row[j];
                }
                right[i] += row[i] * f64::from(examples.target(k));
            }
        }
        for (i, row) in matrix.iter_mut().enumerate() {
            row[i] += 1e-6 * examples.count() as f64;
        }
        Self { weights: solved(matrix, right) }
    }

    pub(crate) fn forecast(&self, input: &[f32]) -> f32 {
        let (constant, weights) = self.weights.split_last().expect("a constant");
        let sum = input.iter().zip(weights).map(|(&v, w)| f64::from(v) * w).sum::<f64>();
        (sum + constant) as f32
    }
}

/// The solution of a symmetric, positive definite system, by elimination without pivots.
fn solved(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for pivot in 0..size {
        for row in pivot + 1..size {
            let factor = matrix[row][pivot] / matrix[pivot][pivot];
            let (above, below) = matrix.split_at_mut(row);
            for (to, from) in below[0].iter_mut().zip(&above[pivot]).skip(pivot) {
                *to -= factor * from;
            }
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|k| matrix[row][k] * right[k]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}
