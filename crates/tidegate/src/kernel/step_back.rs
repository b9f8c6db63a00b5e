//! One step of a cell backward, for many rows: from the derivatives by the state that left to those by the
//! gates' sums.
#![allow(unsafe_code, reason = "bounds are checked once per call, not once per vector")]

use core::ops::Range;

use tidegate_simd::{Element, Simd};

use crate::cell::{Cell, List};

/// One step backward of many rows. Rows of `c` and its likes are `blocks * lanes` long.
pub(crate) struct StepBack<'a, E> {
    /// What forward saved, `[rows, blocks, values, lanes]`.
    pub(crate) saved: &'a [E],
    /// The `h` that entered, `[rows, h_stride]`.
    pub(crate) h: &'a [E],
    /// Elements from one row of `h` to the next.
    pub(crate) h_stride: usize,
    /// The `c` that entered, `[rows, blocks * lanes]`; empty if the cell has none.
    pub(crate) c: &'a [E],
    /// By the `h` that left, `[rows, blocks * lanes]`.
    pub(crate) d_h: &'a [E],
    /// By the `c` that left, becomes the one by `c`, `[rows, blocks * lanes]`; empty if there is none.
    pub(crate) d_c: &'a mut [E],
    /// By `h` apart from what comes through the gates, `[rows, blocks * lanes]`; empty if nothing.
    pub(crate) direct: &'a mut [E],
    /// By the gates' sums, `[rows, stride]`: all units of a value, then those of the next.
    pub(crate) deltas: *mut E,
    /// Elements from one row of `deltas` to the next.
    pub(crate) stride: usize,
    /// Number of rows.
    pub(crate) rows: usize,
    /// Number of hidden units.
    pub(crate) units: usize,
    /// The blocks of them to compute.
    pub(crate) blocks: Range<usize>,
}

impl<E: Element> StepBack<'_, E> {
    /// Runs the step with cell `C`.
    ///
    /// # Safety
    /// `rows` rows of `deltas`, `stride` apart, must be writable, and nobody else may access these blocks of them at the same
    /// time.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd<E>, C: Cell>(self, s: S) {
        let (lanes, rows) = (S::LANES, self.rows);
        let width = self.units.next_multiple_of(lanes);
        assert!(self.blocks.end * lanes <= width);
        let values = <C::Saved<S::V> as List<S::V>>::LEN;
        let deltas = <C::Deltas<S::V> as List<S::V>>::LEN;
        let has_c = <C::State<S::V> as List<S::V>>::LEN > 1;
        assert!(self.saved.len() >= rows * width * values);
        assert!(!C::DIRECT || self.h_stride >= width && self.h.len() >= rows * self.h_stride);
        assert!(!has_c || self.c.len().min(self.d_c.len()) >= rows * width);
        assert!(self.d_h.len() >= rows * width);
        assert!(!C::DIRECT || self.direct.len() >= rows * width);
        assert!(self.stride >= deltas * self.units);
        for row in 0..rows {
            for block in self.blocks.clone() {
                let (unit, zero) = (block * lanes, s.splat(E::ZERO));
                let at = row * width + unit;
                let mut saved = C::Saved::<S::V>::all(zero);
                let mut state = C::State::<S::V>::all(zero);
                let mut next = C::State::<S::V>::all(zero);
                // SAFETY: the slices were just compared with the rows and blocks; the caller vouches for the deltas.
                unsafe {
                    for value in 0..values {
                        let from = self.saved.as_ptr().add(at * values + value * lanes);
                        saved.as_mut()[value] = s.load(from);
                    }
                    if C::DIRECT {
                        let from = self.h.as_ptr().add(row * self.h_stride + unit);
                        state.as_mut()[0] = s.load(from);
                    }
                    next.as_mut()[0] = s.load(self.d_h.as_ptr().add(at));
                    if has_c {
                        state.as_mut()[1] = s.load(self.c.as_ptr().add(at));
                        next.as_mut()[1] = s.load(self.d_c.as_ptr().add(at));
                    }
                    let (d_sums, d_state) = C::backward::<E, S>(s, saved, state, next);
                    if C::DIRECT {
                        s.store(d_state.as_ref()[0], self.direct.as_mut_ptr().add(at));
                    }
                    if has_c {
                        s.store(d_state.as_ref()[1], self.d_c.as_mut_ptr().add(at));
                    }
                    let lanes_left = self.units - unit;
                    for value in 0..deltas {
                        let at = row * self.stride + value * self.units + unit;
                        let to = self.deltas.add(at);
                        if lanes_left >= lanes {
                            s.store(d_sums.as_ref()[value], to);
                        } else {
                            s.store_first(d_sums.as_ref()[value], lanes_left, to);
                        }
                    }
                }
            }
        }
    }
}
