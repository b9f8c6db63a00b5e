use tidegate_simd::{Element, Simd};

use super::{Cell, Gradients, Window};
use crate::kernel::math::{relu, tanh};

/// Elman network with `tanh`, as [`torch.nn.RNN`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html).
///
/// ```text
/// h' = tanh(h)
/// ```
///
/// Backward: `dh = dh' (1 - h'²)`.
#[derive(Debug)]
pub(crate) struct ElmanTanh;

/// Elman network with `relu`, as `torch.nn.RNN` with `nonlinearity='relu'`.
///
/// ```text
/// h' = max(h, 0)
/// ```
///
/// Backward: `dh = dh'` unless `h' <= 0`, where it is 0.
#[derive(Debug)]
pub(crate) struct ElmanRelu;

impl Cell for ElmanTanh {
    type Gates<T: Copy> = [T; 1];
    type State<T: Copy> = [T; 1]; // h

    type Saved<T: Copy> = [T; 1]; // h'
    type Deltas<T: Copy> = [T; 1]; // dh

    const SPLIT: &'static [bool] = &[false];
    const RECURRENT: Window = Window { first: 0, gates: &[0] };
    const INPUT: Window = Window { first: 0, gates: &[0] };
    const DIRECT: bool = false;

    #[inline(always)]
    fn forward<E: Element, S: Simd<E>>(
        s: S,
        _: [S::V; 1],
        [h]: [S::V; 1],
        _: [S::V; 1],
        mut meanwhile: impl FnMut(usize),
    ) -> ([S::V; 1], [S::V; 1]) {
        let h = tanh(s, h);
        meanwhile(0);
        meanwhile(1);
        ([h], [h])
    }

    #[inline(always)]
    fn backward<E: Element, S: Simd<E>>(
        s: S,
        [h]: [S::V; 1],
        _: [S::V; 1],
        [dh]: [S::V; 1],
    ) -> Gradients<Self, S::V> {
        ([s.mul(dh, s.neg_mul_add(h, h, s.splat(E::ONE)))], [s.splat(E::ZERO)])
    }
}

impl Cell for ElmanRelu {
    type Gates<T: Copy> = [T; 1];
    type State<T: Copy> = [T; 1]; // h

    type Saved<T: Copy> = [T; 1]; // h'
    type Deltas<T: Copy> = [T; 1]; // dh

    const SPLIT: &'static [bool] = &[false];
    const RECURRENT: Window = Window { first: 0, gates: &[0] };
    const INPUT: Window = Window { first: 0, gates: &[0] };
    const DIRECT: bool = false;

    #[inline(always)]
    fn forward<E: Element, S: Simd<E>>(
        s: S,
        _: [S::V; 1],
        [h]: [S::V; 1],
        _: [S::V; 1],
        mut meanwhile: impl FnMut(usize),
    ) -> ([S::V; 1], [S::V; 1]) {
        let h = relu(s, h);
        meanwhile(0);
        meanwhile(1);
        ([h], [h])
    }

    #[inline(always)]
    fn backward<E: Element, S: Simd<E>>(
        s: S,
        [h]: [S::V; 1],
        _: [S::V; 1],
        [dh]: [S::V; 1],
    ) -> Gradients<Self, S::V> {
        let zero = s.splat(E::ZERO);
        // Of a NaN it is `dh`, as in PyTorch; comparisons with it are false.
        let unless_less = s.select_less(h, s.splat(E::ONE), zero, dh);
        ([s.select_less(zero, h, dh, unless_less)], [zero])
    }
}
