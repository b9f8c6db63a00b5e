//! The derivatives against central differences, for every element of every argument.

mod common;

use common::Example;
use tidegate_reference::{Answer, Call, Upstream, backward, forward};
use tidegate_testing::random::Random;

/// Half the distance of the two points of a difference. Its error is the third derivative times the square of it,
/// and the rounding of the loss, 1e-16 of it, divided by it: both about 1e-10.
const STEP: f64 = 1e-5;

/// Of the larger of 1 and the largest derivative in the tensor: a hundred times the above, as third derivatives of three
/// layers over four steps are larger than 1.
const TOLERANCE: f64 = 1e-8;

/// The loss is the products of the results with these, summed up.
struct Factors {
    output: Option<Vec<f64>>,
    h_n: Option<Vec<f64>>,
    c_n: Option<Vec<f64>>,
}

impl Factors {
    fn new(like: &Answer, random: &mut Random) -> Self {
        let mut some = |len: usize| random.flip().then(|| random.vec(len, -1.0, 1.0));
        Self {
            output: some(like.output.len()),
            h_n: some(like.h_n.len()),
            c_n: some(like.c_n.len()),
        }
    }

    fn loss(&self, answer: &Answer) -> f64 {
        let dot = |factors: &Option<Vec<f64>>, values: &[f64]| -> f64 {
            factors.iter().flatten().zip(values).map(|(a, b)| a * b).sum()
        };
        dot(&self.output, &answer.output)
            + dot(&self.h_n, &answer.h_n)
            + dot(&self.c_n, &answer.c_n)
    }
}

/// Compares `got` with differences of `loss` as a function of `values`.
fn compare(name: &str, values: &[f64], got: &[f64], loss: impl Fn(&[f64]) -> f64) {
    assert_eq!(got.len(), values.len(), "{name}");
    let largest = got.iter().fold(1.0, |most: f64, d| most.max(d.abs()));
    for (k, got) in got.iter().enumerate() {
        let at = |offset: f64| {
            let mut values = values.to_vec();
            values[k] += offset;
            loss(&values)
        };
        let want = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        assert!(
            (got - want).abs() <= TOLERANCE * largest,
            "{name}[{k}]: {got}, by differences {want}"
        );
    }
}

#[test]
fn every_derivative_is_the_limit_of_differences() {
    let random = &mut Random::new(11);
    for _ in 0..500 {
        let example = Example::new(random);
        let (spec, parameters) = (&example.spec, &example.parameters);
        let call = example.call();
        let factors = Factors::new(&forward(spec, parameters, &call), random);
        let upstream = Upstream {
            output: factors.output.as_deref(),
            h_n: factors.h_n.as_deref(),
            c_n: factors.c_n.as_deref(),
        };
        let gradients = backward(spec, parameters, &call, &upstream);
        let loss = |call: &Call<'_>| factors.loss(&forward(spec, parameters, call));
        compare("x", &example.x, &gradients.x, |x| loss(&Call { x, ..call }));
        compare("h_0", &example.h_0, &gradients.h_0, |h| loss(&Call { h_0: Some(h), ..call }));
        compare("c_0", &example.c_0, &gradients.c_0, |c| loss(&Call { c_0: Some(c), ..call }));
        let zeros = |like: &[f64]| vec![0.0; like.len()];
        let h = example.reset_h.clone().unwrap_or(zeros(&example.h_0));
        let c = example.reset_c.clone().unwrap_or(zeros(&example.c_0));
        compare("reset_h", &h, &gradients.reset_h, |h| loss(&Call { reset_h: Some(h), ..call }));
        compare("reset_c", &c, &gradients.reset_c, |c| loss(&Call { reset_c: Some(c), ..call }));
        for (name, values) in parameters {
            compare(name, values, &gradients.parameters[name], |values| {
                let mut parameters = parameters.clone();
                parameters.insert(name.clone(), values.to_vec());
                factors.loss(&forward(spec, &parameters, &call))
            });
        }
    }
}
