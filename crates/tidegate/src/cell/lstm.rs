use tidegate_simd::{Element, Simd};

use super::{Cell, Gradients, Window};
use crate::kernel::math::{sigmoid, tanh};

/// Long short-term memory, as [`torch.nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html).
///
/// ```text
/// i = σ(h_i)    f = σ(h_f)    g = tanh(h_g)    o = σ(h_o)
/// c' = f c + i g
/// h' = o tanh(c')
/// ```
///
/// Backward, with `d` for the derivative of the loss by what follows it:
///
/// ```text
/// dc' += dh' o (1 - tanh²(c'))
/// di = dc' g i (1 - i)    df = dc' c f (1 - f)    dg = dc' i (1 - g²)    do = dh' tanh(c') o (1 - o)
/// dc = dc' f
/// ```
#[derive(Debug)]
pub(crate) struct Lstm;

impl Cell for Lstm {
    type Gates<T: Copy> = [T; 4]; // i, f, g, o
    type State<T: Copy> = [T; 2]; // h, c

    type Saved<T: Copy> = [T; 4]; // i, f, g, o
    type Deltas<T: Copy> = [T; 4]; // di, df, dg, do

    const SPLIT: &'static [bool] = &[false; 4];
    const RECURRENT: Window = Window { first: 0, gates: &[0, 1, 2, 3] };
    const INPUT: Window = Window { first: 0, gates: &[0, 1, 2, 3] };
    const DIRECT: bool = false;

    #[inline(always)]
    fn forward<E: Element, S: Simd<E>>(
        s: S,
        _: [S::V; 4],
        h: [S::V; 4],
        [_, c]: [S::V; 2],
        mut meanwhile: impl FnMut(usize),
    ) -> ([S::V; 2], [S::V; 4]) {
        // In the order in which they are waited for: o is computed beside the last tanh.
        let g = tanh(s, h[2]);
        let i = sigmoid(s, h[0]);
        let f = sigmoid(s, h[1]);
        let c_next = s.mul_add(f, c, s.mul(i, g));
        let o = sigmoid(s, h[3]);
        meanwhile(0);
        let tanh_c = tanh(s, c_next);
        meanwhile(1);
        ([s.mul(o, tanh_c), c_next], [i, f, g, o])
    }

    #[inline(always)]
    fn backward<E: Element, S: Simd<E>>(
        s: S,
        [i, f, g, o]: [S::V; 4],
        [_, c]: [S::V; 2],
        [dh, dc]: [S::V; 2],
    ) -> Gradients<Self, S::V> {
        let one = s.splat(E::ONE);
        let tanh_c = tanh(s, s.mul_add(f, c, s.mul(i, g)));
        let dc = s.mul_add(s.mul(dh, o), s.neg_mul_add(tanh_c, tanh_c, one), dc);

        let di = s.mul(s.mul(dc, g), s.neg_mul_add(i, i, i));
        let df = s.mul(s.mul(dc, c), s.neg_mul_add(f, f, f));
        let dg = s.mul(s.mul(dc, i), s.neg_mul_add(g, g, one));
        let d_o = s.mul(s.mul(dh, tanh_c), s.neg_mul_add(o, o, o));
        ([di, df, dg, d_o], [s.splat(E::ZERO), s.mul(dc, f)])
    }
}
