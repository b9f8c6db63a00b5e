//! Asserts that compare arrays element by element.

use crate::Float;

/// How far an element may be from what is wanted: `absolute + relative * |wanted|`.
///
/// The same infinity and NaN for NaN are no difference; every other use of them is.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// For wanted values around 0.
    pub absolute: f64,
    /// For large wanted values.
    pub relative: f64,
}

impl Tolerance {
    /// The same for all values.
    pub const fn absolute(absolute: f64) -> Self {
        Self { absolute, relative: 0.0 }
    }

    /// Growing with the value.
    pub const fn new(absolute: f64, relative: f64) -> Self {
        Self { absolute, relative }
    }

    fn allows(self, got: f64, want: f64) -> bool {
        let off = (got - want).abs();
        // An infinite difference must not pass because an infinite value allows it.
        same(got, want) || (off.is_finite() && off <= self.absolute + self.relative * want.abs())
    }
}

fn same(got: f64, want: f64) -> bool {
    got == want || (got.is_nan() && want.is_nan())
}

/// Asserts that every element of `got` is within `tolerance` of the element of `want`.
///
/// # Panics
/// If one is not; the message names the case, the tensor, the worst element's index in `shape`, both values, and
/// says how many more there are. Also if `got` or `want` do not have `shape`.
#[track_caller]
pub fn assert_close<G: Float, W: Float>(
    case: &str,
    tensor: &str,
    shape: &[usize],
    got: &[G],
    want: &[W],
    tolerance: Tolerance,
) {
    assert_lengths(case, tensor, shape, got.len(), want.len());
    let wrong = |i: usize| !tolerance.allows(got[i].widen(), want[i].widen());
    let off = |i: usize| (got[i].widen() - want[i].widen()).abs();
    let count = (0..got.len()).filter(|&i| wrong(i)).count();
    // NaN is the worst difference of all: total order puts it above infinity.
    let worst = (0..got.len()).filter(|&i| wrong(i)).max_by(|&a, &b| off(a).total_cmp(&off(b)));
    if let Some(i) = worst {
        panic!(
            "{case}: {tensor}{:?} is {:?}, wanted {:?}: off by {:.3e}, allowed are {:.1e} + {:.1e} * |wanted|; {count} of {} elements are off",
            index(shape, i),
            got[i],
            want[i],
            off(i),
            tolerance.absolute,
            tolerance.relative,
            got.len(),
        );
    }
}

/// Asserts that every element of `got` has the bits of the element of `want`; any NaN is as good as another.
///
/// # Panics
/// If one has not; the message names the case, the tensor, the first element's index in `shape`, and both values.
/// Also if `got` or `want` do not have `shape`.
#[track_caller]
pub fn assert_same_bits<F: Float>(
    case: &str,
    tensor: &str,
    shape: &[usize],
    got: &[F],
    want: &[F],
) {
    assert_lengths(case, tensor, shape, got.len(), want.len());
    let both_nan = |i: usize| got[i].widen().is_nan() && want[i].widen().is_nan();
    let differs = |&i: &usize| got[i].bits() != want[i].bits() && !both_nan(i);
    if let Some(i) = (0..got.len()).find(differs) {
        panic!(
            "{case}: {tensor}{:?} is {:?} ({:#x}), wanted the bits of {:?} ({:#x}); {} of {} elements differ",
            index(shape, i),
            got[i],
            got[i].bits(),
            want[i],
            want[i].bits(),
            (0..got.len()).filter(differs).count(),
            got.len(),
        );
    }
}

#[track_caller]
fn assert_lengths(case: &str, tensor: &str, shape: &[usize], got: usize, want: usize) {
    let len: usize = shape.iter().product();
    assert!(
        got == len && want == len,
        "{case}: {tensor} {shape:?}: got {got} elements, wanted {want}"
    );
}

fn index(shape: &[usize], mut flat: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, &size) in index.iter_mut().zip(shape).rev() {
        *place = flat % size;
        flat /= size;
    }
    index
}

/// The error of an array: its largest and its root of the mean square.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// The largest absolute difference.
    pub max: f64,
    /// The root of the mean of the squared differences.
    pub rms: f64,
}

/// The errors of `got` against `want`; 0 for empty arrays, and for elements that are both NaN or the same infinity.
///
/// # Panics
/// If the lengths differ.
pub fn errors<G: Float, W: Float>(got: &[G], want: &[W]) -> Errors {
    assert_eq!(got.len(), want.len(), "arrays to compare have different lengths");
    let mut max = 0.0f64;
    let mut squares = 0.0;
    for (got, want) in got.iter().zip(want) {
        let (got, want) = (got.widen(), want.widen());
        let off = if same(got, want) { 0.0 } else { (got - want).abs() };
        max = if off.is_nan() { f64::INFINITY } else { max.max(off) };
        squares += off * off;
    }
    Errors { max, rms: if got.is_empty() { 0.0 } else { (squares / got.len() as f64).sqrt() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Tolerance = Tolerance::absolute(0.0);

    #[test]
    fn the_edge_of_the_tolerance_is_allowed() {
        let tolerance = Tolerance::new(0.5, 0.25);
        assert_close("case", "x", &[3], &[0.5f64, 5.5, -5.5], &[0.0f64, 4.0, -4.0], tolerance);
    }

    #[test]
    fn nan_and_infinity_equal_themselves() {
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        assert_close("case", "x", &[3], &special, &special, EXACT);
        assert_eq!(errors(&special, &special), Errors { max: 0.0, rms: 0.0 });
    }

    #[test]
    #[should_panic(expected = "case: output[1, 2] is 6.5, wanted 6.0: off by 5.000e-1")]
    fn the_worst_element_is_named() {
        let want = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0];
        let got = [1.0f32, 2.25, 3.0, 4.0, 5.0, 6.5];
        assert_close("case", "output", &[2, 3], &got, &want, Tolerance::absolute(0.1));
    }

    #[test]
    fn a_special_value_in_one_place_only_is_wrong() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (got, want) in [(nan, 1.0), (1.0, nan), (inf, 1.0), (1.0, inf), (inf, -inf), (nan, inf)]
        {
            assert!(!Tolerance::new(1e9, 1e9).allows(got, want), "{got} {want}");
            assert_eq!(errors(&[got], &[want]).max, f64::INFINITY, "{got} {want}");
        }
    }

    #[test]
    #[should_panic(expected = "x[0] is 0.0 (0x0), wanted the bits of -0.0")]
    fn zeros_have_signs() {
        assert_same_bits("case", "x", &[1], &[0.0f32], &[-0.0f32]);
    }

    #[test]
    #[should_panic(expected = "got 2 elements, wanted 3")]
    fn lengths_are_compared() {
        assert_close("case", "x", &[3], &[1.0f32, 2.0], &[1.0f32, 2.0, 3.0], EXACT);
    }
}
