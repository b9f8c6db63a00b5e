#![allow(unsafe_code, reason = "loads and stores take pointers")]

use crate::{Bf16, Element, Simd};

/// `N` vectors side by side, each with a place of its own in memory.
///
/// Every operation is one on each of them, none of which waits for another. Work that is a long chain of operations hides
/// their latency this way, which a processor by itself does as far as it looks ahead.
pub trait SideBySide<E: Element, const N: usize>: Simd<E> {
    /// Loads every vector from its place, so many elements after `from`.
    ///
    /// # Safety
    /// Each must be valid for reading a vector.
    unsafe fn load_each(self, from: *const E, places: [usize; N]) -> Self::V;

    /// Stores every vector at its place, so many elements after `to`.
    ///
    /// # Safety
    /// Each must be valid for writing a vector.
    unsafe fn store_each(self, v: Self::V, to: *mut E, places: [usize; N]);
}

/// Vectors of `N` vectors of the instruction set of `S`.
#[derive(Copy, Clone, Debug)]
pub struct Several<S, const N: usize>(S);

impl<S: Copy, const N: usize> Several<S, N> {
    /// The token for `N` vectors of `s`.
    #[inline(always)]
    pub fn new(s: S) -> Self {
        Self(s)
    }
}

/// Operations that are the same one on every vector, and kept `beside` one another after some of them: often enough that
/// no more than a few come between.
macro_rules! each {
    ($($name:ident($first:ident $(, $arg:ident)*) $($beside:ident)?;)+) => {
        $(#[inline(always)]
        fn $name(self, $first: Self::V $(, $arg: Self::V)*) -> Self::V {
            let mut all = $first;
            for k in 0..N {
                all[k] = self.0.$name($first[k] $(, $arg[k])*);
            }
            $(for k in 1..N {
                (all[k - 1], all[k]) = self.0.$beside(all[k - 1], all[k]);
            })?
            all
        })+
    };
}

impl<E: Element, S: Simd<E>, const N: usize> Simd<E> for Several<S, N> {
    type V = [S::V; N];
    const LANES: usize = N * S::LANES;
    const BLOCK: usize = S::BLOCK;
    const REGISTERS: usize = S::REGISTERS / N;
    type Low = Self;

    #[inline(always)]
    fn low(self) -> Self {
        self
    }

    #[inline(always)]
    fn beside(self, mut a: Self::V, mut b: Self::V) -> (Self::V, Self::V) {
        for k in 0..N {
            (a[k], b[k]) = self.0.beside(a[k], b[k]);
        }
        (a, b)
    }

    #[inline(always)]
    fn splat(self, x: E) -> Self::V {
        [self.0.splat(x); N]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const E) -> Self::V {
        let mut all = self.splat(E::ZERO);
        for (k, v) in all.iter_mut().enumerate() {
            // SAFETY: the caller vouches for the vectors of all.
            *v = unsafe { self.0.load(from.add(k * S::LANES)) };
        }
        all
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const Bf16) -> Self::V {
        let mut all = self.splat(E::ZERO);
        for (k, v) in all.iter_mut().enumerate() {
            // SAFETY: as above.
            *v = unsafe { self.0.load_bf16(from.add(k * S::LANES)) };
        }
        all
    }

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        self.0.prefetch(from);
    }

    #[inline(always)]
    unsafe fn store(self, v: Self::V, to: *mut E) {
        for (k, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { self.0.store(v, to.add(k * S::LANES)) }
        }
    }

    #[inline(always)]
    unsafe fn load_first(self, n: usize, from: *const E) -> Self::V {
        let mut all = self.splat(E::ZERO);
        for (k, v) in all.iter_mut().enumerate() {
            let before = k * S::LANES;
            if before < n {
                // SAFETY: the caller vouches for the first `n`, of which these are some.
                *v = unsafe { self.0.load_first((n - before).min(S::LANES), from.add(before)) };
            }
        }
        all
    }

    #[inline(always)]
    unsafe fn store_first(self, v: Self::V, n: usize, to: *mut E) {
        for (k, v) in v.into_iter().enumerate() {
            let before = k * S::LANES;
            if before < n {
                // SAFETY: as above.
                unsafe { self.0.store_first(v, (n - before).min(S::LANES), to.add(before)) }
            }
        }
    }

    each! {
        add(a, b);
        sub(a, b);
        mul(a, b) beside;
        div(a, b) beside;
        mul_add(a, b, c);
        neg_mul_add(a, b, c);
        min(a, b) beside;
        max(a, b);
        select_less(a, b, x, y);
        abs(v);
        with_sign(a, b);
        scale_rounded(x, t) beside;
    }
}

impl<E: Element, S: Simd<E>, const N: usize> SideBySide<E, N> for Several<S, N> {
    #[inline(always)]
    unsafe fn load_each(self, from: *const E, places: [usize; N]) -> Self::V {
        // SAFETY: the caller's.
        places.map(
            #[inline(always)]
            |place| unsafe { self.0.load(from.add(place)) },
        )
    }

    #[inline(always)]
    unsafe fn store_each(self, v: Self::V, to: *mut E, places: [usize; N]) {
        for (v, place) in v.into_iter().zip(places) {
            // SAFETY: the caller's.
            unsafe { self.0.store(v, to.add(place)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Alone, compare};
    use crate::{Kernel, Level};

    /// Compares three vectors side by side with each of them alone.
    struct Compare;

    impl<E: Element> Kernel<E> for Compare {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd<E>>(self, s: S) {
            compare(
                Several::<S, 3>::new(s),
                [S::LANES; 3],
                #[inline(always)]
                |alone: Alone<'_, E>| (0..3).for_each(|k| alone.compute(s, k * S::LANES)),
            );
        }
    }

    #[test]
    fn vectors_side_by_side_are_the_same_alone() {
        for level in Level::available() {
            f32::run(level, Compare);
            f64::run(level, Compare);
        }
    }
}
