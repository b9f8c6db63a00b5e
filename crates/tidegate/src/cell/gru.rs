use tidegate_simd::{Element, Simd};

use super::Cell;
use crate::kernel::math::{sigmoid, tanh};

/// Gated recurrent unit, as [`torch.nn.GRU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html):
/// the reset gate applies after the matrix product.
///
/// ```text
/// r = σ(h_r)    z = σ(h_z)    n = tanh(x_n + r h_n)
/// h' = (1 - z) n + z h = n + z (h - n)
/// ```
#[derive(Debug)]
pub(crate) struct Gru;

impl Cell for Gru {
    type Gates<T: Copy> = [T; 3]; // r, z, n
    type State<T: Copy> = [T; 1]; // h

    const SPLIT: &'static [bool] = &[false, false, true];

    #[inline(always)]
    fn forward<E: Element, S: Simd<E>>(
        s: S,
        x: [S::V; 3],
        h: [S::V; 3],
        [h_prev]: [S::V; 1],
    ) -> [S::V; 1] {
        let r = sigmoid(s, h[0]);
        let z = sigmoid(s, h[1]);
        let n = tanh(s, s.mul_add(r, h[2], x[2]));
        [s.mul_add(z, s.sub(h_prev, n), n)]
    }
}
