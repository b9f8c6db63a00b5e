#![allow(unsafe_code, reason = "loads and stores take pointers")]

use crate::{Bf16, Element, SideBySide, Simd};

/// Vectors of a vector of the instruction set of `S` and one of its first lanes alone ([`Simd::low`]).
#[derive(Copy, Clone, Debug)]
pub struct Uneven<S>(S);

impl<S: Copy> Uneven<S> {
    /// The token for such vectors of `s`.
    #[inline(always)]
    pub fn new(s: S) -> Self {
        Self(s)
    }
}

/// Operations that are the same one on both vectors, and kept `beside` one another after some of them, as in
/// [`Several`](crate::Several).
macro_rules! both {
    ($($name:ident($($arg:ident),+) $($beside:ident)?;)+) => {
        $(#[inline(always)]
        fn $name(self, $($arg: Self::V),+) -> Self::V {
            let both = (self.0.$name($($arg.0),+), self.0.low().$name($($arg.1),+));
            $(let both = self.0.$beside(both.0, both.1);)?
            both
        })+
    };
}

impl<E: Element, S: Simd<E>> Simd<E> for Uneven<S> {
    type V = (S::V, <S::Low as Simd<E>>::V);
    const LANES: usize = S::LANES + S::Low::LANES;
    const BLOCK: usize = S::BLOCK;
    const REGISTERS: usize = S::REGISTERS / 2;
    type Low = Self;

    #[inline(always)]
    fn low(self) -> Self {
        self
    }

    #[inline(always)]
    fn beside(self, a: Self::V, b: Self::V) -> (Self::V, Self::V) {
        let (first, second) = (self.0.beside(a.0, b.0), self.0.low().beside(a.1, b.1));
        ((first.0, second.0), (first.1, second.1))
    }

    #[inline(always)]
    fn splat(self, x: E) -> Self::V {
        (self.0.splat(x), self.0.low().splat(x))
    }

    #[inline(always)]
    unsafe fn load(self, from: *const E) -> Self::V {
        // SAFETY: the caller's.
        unsafe { self.load_each(from, [0, S::LANES]) }
    }

    #[inline(always)]
    unsafe fn store(self, v: Self::V, to: *mut E) {
        // SAFETY: the caller's.
        unsafe { self.store_each(v, to, [0, S::LANES]) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const Bf16) -> Self::V {
        // SAFETY: the caller vouches for the vectors of both.
        unsafe { (self.0.load_bf16(from), self.0.low().load_bf16(from.add(S::LANES))) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        self.0.prefetch(from);
    }

    #[inline(always)]
    unsafe fn load_first(self, n: usize, from: *const E) -> Self::V {
        let first = n.min(S::LANES);
        // SAFETY: the caller vouches for the first `n`.
        unsafe {
            let low = self.0.low().load_first(n - first, from.add(first));
            (self.0.load_first(first, from), low)
        }
    }

    #[inline(always)]
    unsafe fn store_first(self, v: Self::V, n: usize, to: *mut E) {
        let first = n.min(S::LANES);
        // SAFETY: the caller vouches for the first `n`.
        unsafe {
            self.0.store_first(v.0, first, to);
            self.0.low().store_first(v.1, n - first, to.add(first));
        }
    }

    both! {
        add(a, b);
        sub(a, b);
        mul(a, b) beside_low;
        div(a, b) beside_low;
        mul_add(a, b, c);
        neg_mul_add(a, b, c);
        min(a, b) beside_low;
        max(a, b);
        select_less(a, b, x, y);
        abs(v);
        with_sign(a, b);
        scale_rounded(x, t) beside_low;
    }
}

impl<E: Element, S: Simd<E>> SideBySide<E, 2> for Uneven<S> {
    #[inline(always)]
    unsafe fn load_each(self, from: *const E, [first, second]: [usize; 2]) -> Self::V {
        // SAFETY: the caller's.
        unsafe { (self.0.load(from.add(first)), self.0.low().load(from.add(second))) }
    }

    #[inline(always)]
    unsafe fn store_each(self, v: Self::V, to: *mut E, [first, second]: [usize; 2]) {
        // SAFETY: the caller's.
        unsafe {
            self.0.store(v.0, to.add(first));
            self.0.low().store(v.1, to.add(second));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Alone, compare};
    use crate::{Kernel, Level};

    /// Compares both vectors with each of them alone.
    struct Compare;

    impl<E: Element> Kernel<E> for Compare {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd<E>>(self, s: S) {
            compare(
                Uneven::new(s),
                [S::LANES, S::Low::LANES],
                #[inline(always)]
                |alone: Alone<'_, E>| {
                    alone.compute(s, 0);
                    alone.compute(s.low(), S::LANES);
                },
            );
        }
    }

    #[test]
    fn both_vectors_are_the_same_alone() {
        for level in Level::available() {
            f32::run(level, Compare);
            f64::run(level, Compare);
        }
    }
}
