use tidegate_simd::{Element, Simd};

use super::Cell;
use crate::kernel::math::{relu, tanh};

/// Elman network with `tanh`, as [`torch.nn.RNN`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html).
///
/// ```text
/// h' = tanh(h)
/// ```
#[derive(Debug)]
pub(crate) struct ElmanTanh;

/// Elman network with `relu`, as `torch.nn.RNN` with `nonlinearity='relu'`.
///
/// ```text
/// h' = max(h, 0)
/// ```
#[derive(Debug)]
pub(crate) struct ElmanRelu;

impl Cell for ElmanTanh {
    type Gates<T: Copy> = [T; 1];
    type State<T: Copy> = [T; 1]; // h

    const SPLIT: &'static [bool] = &[false];

    #[inline(always)]
    fn forward<E: Element, S: Simd<E>>(
        s: S,
        _: [S::V; 1],
        [h]: [S::V; 1],
        _: [S::V; 1],
    ) -> [S::V; 1] {
        [tanh(s, h)]
    }
}

impl Cell for ElmanRelu {
    type Gates<T: Copy> = [T; 1];
    type State<T: Copy> = [T; 1]; // h

    const SPLIT: &'static [bool] = &[false];

    #[inline(always)]
    fn forward<E: Element, S: Simd<E>>(
        s: S,
        _: [S::V; 1],
        [h]: [S::V; 1],
        _: [S::V; 1],
    ) -> [S::V; 1] {
        [relu(s, h)]
    }
}
