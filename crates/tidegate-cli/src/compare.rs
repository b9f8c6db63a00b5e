//! How far our answer is from another one.

use anyhow::{Result, ensure};

use crate::io::{Array, Scalar};
use crate::text;

/// What an element may differ by: `absolute + relative * |expected|`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) absolute: f64,
    pub(crate) relative: f64,
}

/// The relative part of every tolerance. PyTorch's own paths differ from one another by as much on
/// real models.
const RELATIVE: f64 = 1e-6;

impl Tolerance {
    /// `absolute` for a value of 0, and 1e-6 of the expected value on top.
    pub(crate) fn new(absolute: f64) -> Self {
        Self { absolute, relative: RELATIVE }
    }

    /// How much more than allowed `difference` is: beyond the tolerance where positive.
    fn excess(self, difference: f64, expected: f64) -> f64 {
        // Where an infinity was expected, everything but that infinity is infinitely far from it.
        if difference.is_finite() { difference - self.at(expected) } else { difference }
    }

    /// What an element may differ by where `expected` is expected.
    fn at(self, expected: f64) -> f64 {
        self.absolute + self.relative * expected.abs()
    }
}

impl std::fmt::Display for Tolerance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:e} + {:e} * |expected|", self.absolute, self.relative)
    }
}

/// What came of comparing one array.
#[derive(Debug)]
pub(crate) struct Difference {
    name: String,
    shape: Vec<usize>,
    /// The largest absolute difference; infinite where only one side is NaN.
    pub(crate) largest: f64,
    /// The index of the largest difference.
    at: Vec<usize>,
    /// How many elements differ by more than the tolerance.
    pub(crate) beyond: usize,
    /// What there is to say about the element furthest beyond the tolerance.
    pub(crate) complaint: Option<String>,
}

impl Difference {
    /// Compares element by element.
    ///
    /// # Errors
    /// If the shapes differ.
    pub(crate) fn of<E: Scalar>(
        name: &str,
        ours: &Array<E>,
        expected: &Array<f64>,
        tolerance: Tolerance,
    ) -> Result<Self> {
        let (got, wanted) = (&ours.shape, &expected.shape);
        ensure!(got == wanted, "{name} has the shape {wanted:?}, the layer answered {got:?}");
        let (mut largest, mut at, mut beyond) = (0.0, 0, 0);
        let (mut excess, mut worst) = (0.0, None);
        for (i, (&ours, &expected)) in ours.data.iter().zip(&expected.data).enumerate() {
            let difference = distance(ours.to_f64(), expected);
            if difference > largest {
                (largest, at) = (difference, i);
            }
            let here = tolerance.excess(difference, expected);
            beyond += usize::from(here > 0.0);
            if here > excess {
                (excess, worst) = (here, Some(i));
            }
        }
        let complaint = worst.map(|i: usize| {
            let element = format!("{name}{:?}", index(i, got));
            complain(&element, ours.data[i], expected.data[i], tolerance)
        });
        Ok(Self {
            name: name.into(),
            shape: got.clone(),
            largest,
            at: index(at, got),
            beyond,
            complaint,
        })
    }
}

/// What there is to say about an element beyond the tolerance.
fn complain<E: Scalar>(element: &str, got: E, expected: f64, tolerance: Tolerance) -> String {
    // In the digits of the computation, if it has them.
    let rounded = E::from_f64(expected);
    let wanted = match rounded.to_f64() == expected {
        true => format!("{rounded:?}"),
        false => format!("{expected:?}"),
    };
    let difference = text::error(distance(got.to_f64(), expected));
    let allowed = text::error(tolerance.at(expected));
    format!(
        "{element}: expected {wanted}, got {got:?}: {difference} apart where {allowed} is allowed"
    )
}

/// `|a - b|`; 0 for equal infinities and for two NaN, infinite for one NaN.
fn distance(a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let difference = (a - b).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

/// The index in an array of `shape` of the element at `place` in memory.
fn index(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&axis| {
            let here = place % axis.max(1);
            place /= axis.max(1);
            here
        })
        .collect();
    index.reverse();
    index
}

/// The differences as aligned lines under a heading.
pub(crate) fn table(differences: &[Difference]) -> String {
    let heading = ["", "shape", "largest difference", "at", "beyond tolerance"].map(String::from);
    let row = |difference: &Difference| {
        [
            difference.name.clone(),
            format!("{:?}", difference.shape),
            text::error(difference.largest),
            if difference.largest == 0.0 { String::new() } else { format!("{:?}", difference.at) },
            format!(
                "{} of {}",
                text::count(difference.beyond),
                text::count(difference.shape.iter().product())
            ),
        ]
    };
    text::table(&[vec![heading], differences.iter().map(row).collect()].concat(), &[])
}

/// Our error and PyTorch's against the same values in float64.
#[derive(Debug, PartialEq)]
pub(crate) struct AgainstExact {
    ours: f64,
    theirs: Option<f64>,
    rows: usize,
    every: usize,
}

impl AgainstExact {
    /// Measures against `exact`, which holds every k-th row of the output; `theirs` is PyTorch's
    /// answer, if known.
    ///
    /// None if no k fits the shapes. Where several do (two rows of ten are every 5th to every 9th),
    /// the k is taken that agrees best.
    pub(crate) fn of<E: Scalar>(
        ours: &Array<E>,
        theirs: Option<&Array<f64>>,
        exact: &Array<f64>,
    ) -> Option<Self> {
        let (steps, rows) = (*ours.shape.first()?, *exact.shape.first()?);
        if ours.shape[1..] != exact.shape[1..] || rows == 0 || rows > steps {
            return None;
        }
        let fits =
            (steps.div_ceil(rows)..=steps).take_while(|&every| steps.div_ceil(every) == rows);
        let error = |every| (every, largest_error(ours, exact, every));
        let (every, ours_error) = fits.map(error).min_by(|a, b| a.1.total_cmp(&b.1))?;
        let theirs = theirs
            .filter(|theirs| theirs.shape == ours.shape)
            .map(|theirs| largest_error(theirs, exact, every));
        Some(Self { ours: ours_error, theirs, rows, every })
    }

    /// One line that says it.
    pub(crate) fn line(&self) -> String {
        let rows = match self.every {
            1 => "every row of output".to_string(),
            every => {
                format!("every {} row of output, {} in all", ordinal(every), text::count(self.rows))
            }
        };
        let theirs = self
            .theirs
            .map_or(String::new(), |theirs| format!(", PyTorch {}", text::error(theirs)));
        format!(
            "largest error against float64 ({rows}): tidegate {}{theirs}",
            text::error(self.ours)
        )
    }
}

fn largest_error<E: Scalar>(output: &Array<E>, exact: &Array<f64>, every: usize) -> f64 {
    let width = output.row_len();
    let rows = output.data.chunks(width.max(1)).step_by(every).zip(exact.data.chunks(width.max(1)));
    let pairs = rows.flat_map(|(row, exact)| row.iter().zip(exact));
    pairs.map(|(&value, &exact)| distance(value.to_f64(), exact)).fold(0.0, f64::max)
}

fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (1, rest) if rest != 11 => "st",
        (2, rest) if rest != 12 => "nd",
        (3, rest) if rest != 13 => "rd",
        _ => "th",
    };
    format!("{}{ending}", text::count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], data: &[f64]) -> Array<f64> {
        Array { shape: shape.to_vec(), data: data.to_vec() }
    }

    #[test]
    fn the_largest_difference_and_its_place() {
        let expected = array(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let ours = array(&[2, 3], &[0.0, 1.0, 2.5, 3.0, 3.0, 5.0]);
        let difference = Difference::of("output", &ours, &expected, Tolerance::new(0.6)).unwrap();
        assert_eq!((difference.largest, difference.at, difference.beyond), (1.0, vec![1, 1], 1));
    }

    #[test]
    fn a_complaint_is_about_an_element_beyond_the_tolerance() {
        // The larger difference is the one that is allowed.
        let expected = array(&[1, 2], &[1e6, 0.5]);
        let ours = array(&[1, 2], &[1e6 + 0.5, 0.75]);
        let difference = Difference::of("h_n", &ours, &expected, Tolerance::new(1e-5)).unwrap();
        assert_eq!(
            (difference.largest, &difference.at[..], difference.beyond),
            (0.5, &[0, 0][..], 1)
        );
        let complaint = difference.complaint.unwrap();
        assert_eq!(
            complaint,
            "h_n[0, 1]: expected 0.5, got 0.75: 2.5e-1 apart where 1.1e-5 is allowed"
        );
    }

    #[test]
    fn shapes_must_be_the_same() {
        let message = Difference::of(
            "output",
            &array(&[2, 1], &[0.0; 2]),
            &array(&[1, 2], &[0.0; 2]),
            Tolerance::new(1.0),
        );
        assert_eq!(
            message.unwrap_err().to_string(),
            "output has the shape [1, 2], the layer answered [2, 1]"
        );
    }

    #[test]
    fn the_tolerance_grows_with_the_expected_value() {
        let expected = array(&[3], &[0.0, 1e3, -1e3]);
        let ours = array(&[3], &[2e-6, 1e3 + 9e-4, -1e3 - 1.1e-3]);
        assert_eq!(Difference::of("", &ours, &expected, Tolerance::new(1e-6)).unwrap().beyond, 2);
        assert_eq!(Difference::of("", &ours, &expected, Tolerance::new(3e-6)).unwrap().beyond, 1);
        assert_eq!(
            Difference::of("", &expected, &expected, Tolerance::new(0.0)).unwrap().beyond,
            0
        );
    }

    #[test]
    fn nan_meets_nan_and_infinity_the_same_infinity() {
        let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0];
        for (i, &a) in special.iter().enumerate() {
            for (j, &b) in special.iter().enumerate() {
                let difference =
                    Difference::of("", &array(&[1], &[a]), &array(&[1], &[b]), Tolerance::new(1e9))
                        .unwrap();
                assert_eq!(difference.beyond == 0, i == j, "{a} against {b}");
            }
        }
    }

    #[test]
    fn every_kth_row_is_found() {
        let output = array(&[10, 1], &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9.]);
        let close =
            array(&[10, 1], &output.data.iter().map(|value| value + 0.25).collect::<Vec<_>>());
        let exact =
            |rows: &[f64]| AgainstExact::of(&output, Some(&close), &array(&[rows.len(), 1], rows));
        let every = |rows: &[f64]| exact(rows).unwrap().every;
        assert_eq!(every(&output.data), 1);
        assert_eq!(every(&[0., 3., 6., 9.]), 3);
        assert_eq!(every(&[0., 7.]), 7);
        assert_eq!(every(&[0.]), 10);
        assert_eq!(exact(&[0., 1., 2., 3., 4., 5., 6.]), None);
        let line = exact(&[0., 3.5, 6., 9.]).unwrap().line();
        assert_eq!(
            line,
            "largest error against float64 (every 3rd row of output, 4 in all): \
             tidegate 5.0e-1, PyTorch 2.5e-1"
        );
    }
}
