//! For tests: what vectors side by side compute, compared with what each of them computes alone.
#![allow(unsafe_code, reason = "loads and stores take pointers")]

use std::cell::RefCell;

use crate::{Element, SideBySide, Simd};

/// An operation on vectors.
#[derive(Copy, Clone, Debug)]
enum Operation {
    Add,
    Sub,
    Mul,
    Div,
    MulAdd,
    NegMulAdd,
    Min,
    Max,
    SelectLess,
    Abs,
    WithSign,
    ScaleRounded,
    Beside,
}

use Operation::*;

impl Operation {
    const ALL: [Self; 13] = [
        Add,
        Sub,
        Mul,
        Div,
        MulAdd,
        NegMulAdd,
        Min,
        Max,
        SelectLess,
        Abs,
        WithSign,
        ScaleRounded,
        Beside,
    ];

    /// Of three vectors, of which those of `c` are positive.
    #[inline(always)]
    fn apply<E: Element, S: Simd<E>>(self, s: S, [a, b, c]: [S::V; 3]) -> S::V {
        match self {
            Add => s.add(a, b),
            Sub => s.sub(a, b),
            Mul => s.mul(a, b),
            Div => s.div(a, c),
            MulAdd => s.mul_add(a, b, c),
            NegMulAdd => s.neg_mul_add(a, b, c),
            Min => s.min(a, b),
            Max => s.max(a, b),
            SelectLess => s.select_less(a, b, c, a),
            Abs => s.abs(a),
            WithSign => s.with_sign(c, a),
            ScaleRounded => s.scale_rounded(s.splat(E::ONE), s.add(a, s.splat(E::ROUNDER))),
            Beside => {
                let (a, b) = s.beside(a, b);
                s.sub(a, b)
            }
        }
    }
}

/// An operation to be computed by each vector alone.
pub(crate) struct Alone<'a, E> {
    operation: Operation,
    numbers: [&'a [E]; 3],
    out: RefCell<&'a mut [E]>,
}

impl<E: Element> Alone<'_, E> {
    /// Computes the elements from `at` on, a vector of them.
    #[inline(always)]
    pub(crate) fn compute<S: Simd<E>>(&self, s: S, at: usize) {
        let out = &mut self.out.borrow_mut()[at..at + S::LANES];
        let numbers = self.numbers.map(|numbers| &numbers[at..at + S::LANES]);
        // SAFETY: all of these are a vector long.
        unsafe {
            let [a, b, c] = numbers.map(|numbers| s.load(numbers.as_ptr()));
            s.store(self.operation.apply(s, [a, b, c]), out.as_mut_ptr());
        }
    }
}

/// Compares `s`, whose vectors have so many `lanes` each, with what `alone` computes.
#[inline(always)]
pub(crate) fn compare<E, S, const N: usize>(s: S, lanes: [usize; N], alone: impl Fn(Alone<'_, E>))
where
    E: Element,
    S: SideBySide<E, N>,
{
    let all = S::LANES;
    assert_eq!(all, lanes.iter().sum());
    let numbers: Vec<E> = (0..3 * all).map(|k| E::from_f64(0.37 * k as f64 - 3.0)).collect();
    let positive: Vec<E> = (0..all).map(|k| E::from_f64(0.11 * k as f64 + 0.5)).collect();
    let [a, b, c] = [&numbers[..all], &numbers[all / 2..][..all], &positive[..]];
    let (mut out, mut want) = (vec![E::ZERO; all], vec![E::ZERO; all]);
    for operation in Operation::ALL {
        // SAFETY: all of these are `all` long.
        unsafe {
            let vectors = [a, b, c].map(|numbers| s.load(numbers.as_ptr()));
            s.store(operation.apply(s, vectors), out.as_mut_ptr());
        }
        alone(Alone { operation, numbers: [a, b, c], out: RefCell::new(&mut want) });
        assert_eq!(out, want, "{operation:?}");
    }
    for n in 0..=all {
        // SAFETY: there are `n`, and as many places.
        unsafe {
            s.store(s.load_first(n, b.as_ptr()), out.as_mut_ptr());
            assert!(out[..n] == b[..n] && out[n..].iter().all(|&v| v == E::ZERO), "{n}");
            s.store(s.load(a.as_ptr()), out.as_mut_ptr());
            s.store_first(s.load(b.as_ptr()), n, out.as_mut_ptr());
            assert!(out[..n] == b[..n] && out[n..] == a[n..], "{n}");
        }
    }
    // The vectors, from the last to the first, with an element between them.
    let mut end = 0;
    let mut places = [0; N];
    for (place, lanes) in places.iter_mut().zip(lanes).rev() {
        *place = end + 1;
        end = *place + lanes;
    }
    let mut out = vec![E::ZERO; end + 1];
    // SAFETY: the vectors end before the last of so many elements, and there are more numbers.
    unsafe { s.store_each(s.load_each(numbers.as_ptr(), places), out.as_mut_ptr(), places) }
    let covered = |k: &usize| {
        places.iter().zip(lanes).any(|(&place, lanes)| (place..place + lanes).contains(k))
    };
    for (k, &v) in out.iter().enumerate() {
        assert!(v == if covered(&k) { numbers[k] } else { E::ZERO }, "{k}");
    }
}
