//! What the recorded answers do not have: rows without a step, and cuts.

#[allow(dead_code, reason = "not every test makes whole examples")]
mod common;

use common::{Example, random_parameters};
use tidegate_reference::{Call, Spec, forward};
use tidegate_testing::random::Random;

/// PyTorch has no rows without a step, so this is not in the fixtures.
#[test]
fn a_row_in_a_batch_is_the_row_alone_even_without_a_step() {
    let random = &mut Random::new(3);
    let spec = Spec {
        input_size: 3,
        hidden_size: 4,
        num_layers: 2,
        bidirectional: true,
        proj_size: 2,
        ..Spec::default()
    };
    let parameters = random_parameters(&spec, random);
    let (steps, lengths) = (5, [5, 0, 3, 1]);
    let batch = lengths.len();
    let x: Vec<f64> = random.vec(steps * batch * 3, -2.0, 2.0);
    let h_0: Vec<f64> = random.vec(4 * batch * 2, -1.0, 1.0);
    let c_0: Vec<f64> = random.vec(4 * batch * 4, -1.0, 1.0);
    let call = Call { steps, batch, x: &x, h_0: Some(&h_0), c_0: Some(&c_0), ..Call::default() };
    let all = forward(&spec, &parameters, &Call { lengths: Some(&lengths), ..call });
    for (row, &length) in lengths.iter().enumerate() {
        let of_row = |values: &[f64], width: usize| -> Vec<f64> {
            values.chunks(width).skip(row).step_by(batch).flatten().copied().collect()
        };
        let (x, h, c) = (of_row(&x, 3), of_row(&h_0, 2), of_row(&c_0, 4));
        let call = Call {
            steps: length,
            batch: 1,
            x: &x[..length * 3],
            h_0: Some(&h),
            c_0: Some(&c),
            ..call
        };
        let alone = forward(&spec, &parameters, &call);
        let output = of_row(&all.output, 4);
        assert_eq!(output[..length * 4], alone.output, "row {row}");
        assert!(
            output[length * 4..].iter().all(|&value| value == 0.0),
            "row {row} goes on after its end"
        );
        assert_eq!((of_row(&all.h_n, 2), of_row(&all.c_n, 4)), (alone.h_n, alone.c_n), "row {row}");
        assert_eq!(length == 0, of_row(&all.h_n, 2) == h, "row {row}");
    }
}

/// Before a cut and after it, a sequence is two.
#[test]
fn a_cut_sequence_is_its_pieces() {
    let random = &mut Random::new(5);
    let mut differ = 0;
    for _ in 0..200 {
        let Example { spec, parameters, .. } = Example::new(random);
        let spec = Spec { num_layers: 1, ..spec };
        let (inputs, cut) = (spec.input_size, random.between(1, 3));
        let x: Vec<f64> = random.vec(4 * inputs, -1.0, 1.0);
        let resets: Vec<bool> = (0..4).map(|t| t == cut).collect();
        let run = |x: &[f64], resets| {
            let call = Call { steps: x.len() / inputs, batch: 1, x, resets, ..Call::default() };
            forward(&spec, &parameters, &call).output
        };
        let (first, second) = x.split_at(cut * inputs);
        assert_eq!(run(&x, Some(&resets)), [run(first, None), run(second, None)].concat());
        differ += usize::from(run(&x, Some(&resets)) != run(&x, None));
    }
    assert!(differ > 150, "only {differ} cuts change anything"); // relu may give zeros throughout
}
