use tidegate_simd::{Element, Simd};

use super::Cell;
use crate::kernel::math::{sigmoid, tanh};

/// Long short-term memory, as [`torch.nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html).
///
/// ```text
/// i = σ(h_i)    f = σ(h_f)    g = tanh(h_g)    o = σ(h_o)
/// c' = f c + i g
/// h' = o tanh(c')
/// ```
#[derive(Debug)]
pub(crate) struct Lstm;

impl Cell for Lstm {
    type Gates<T: Copy> = [T; 4]; // i, f, g, o
    type State<T: Copy> = [T; 2]; // h, c

    const SPLIT: &'static [bool] = &[false; 4];

    #[inline(always)]
    fn forward<E: Element, S: Simd<E>>(
        s: S,
        _: [S::V; 4],
        h: [S::V; 4],
        [_, c]: [S::V; 2],
    ) -> [S::V; 2] {
        let i = sigmoid(s, h[0]);
        let f = sigmoid(s, h[1]);
        let g = tanh(s, h[2]);
        let o = sigmoid(s, h[3]);

        let c_next = s.mul_add(f, c, s.mul(i, g));
        [s.mul(o, tanh(s, c_next)), c_next]
    }
}
