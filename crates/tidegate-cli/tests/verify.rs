//! `tidegate verify`: what passes, what fails, and what it says.

mod common;

use common::*;
use tidegate::{Options, Output};

const LINE: &str = "verify model.safetensors x.npy expected.npz";

/// A folder with an LSTM, its input, and the layer's answer.
fn set_up() -> (Folder, Output<f32>) {
    let folder = Folder::new();
    let layer = layer::<f32>(lstm(|_| {}));
    let x = noise::<f32>(30);
    save(&folder.path("model.safetensors"), &[("rnn.", &layer)]);
    folder.write("x.npy", npy(&[10, 3], &x));
    let answer = layer.forward_with(view(&[10, 3], &x), Options::default()).unwrap();
    (folder, answer)
}

/// Writes `expected.npz` with all three arrays, `output` changed by `change`.
fn expect(folder: &Folder, answer: &Output<f32>, change: impl FnOnce(&mut [f32])) {
    let mut output = answer.output.data().to_vec();
    change(&mut output);
    let arrays = [
        ("output", npy(&[10, 5], &output)),
        ("h_n", npy(&[1, 5], answer.h_n.data())),
        ("c_n", npy(&[1, 5], answer.c_n.as_ref().unwrap().data())),
        ("something", npy(&[1], &[1i64])),
    ];
    folder.write("expected.npz", npz(&arrays));
}

#[test]
fn an_equal_answer_passes() {
    let (folder, answer) = set_up();
    expect(&folder, &answer, |_| {});
    let outcome = folder.run(LINE).ok();
    for part in [
        "rnn: LSTM(3, 5), float32",
        "output  [10, 5]",
        "h_n     [1, 5]",
        "c_n     [1, 5]",
        "0 of 50",
        "5e-6 + 1e-6 * |expected|",
        "verified",
    ] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
    assert_eq!(outcome.stderr, "");
}

#[test]
fn the_tolerance_is_that_of_the_help() {
    let (folder, answer) = set_up();
    expect(&folder, &answer, |output| output[12] += 4e-6);
    folder.run(LINE).ok();
    let outcome = folder.run(&format!("{LINE} --tolerance 1e-6"));
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stdout.contains("[2, 2]") && outcome.stdout.contains("1 of 50"),
        "{}",
        outcome.stdout
    );
    assert!(!outcome.stdout.contains("verified"));
    let stderr = outcome.stderr;
    assert!(stderr.starts_with("tidegate: expected.npz: output[2, 2]: expected "), "{stderr}");
    assert!(
        stderr.contains("4.0e-6 apart") && stderr.ends_with("; 1 element beyond\n"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1);
    expect(&folder, &answer, |output| output[12] += 6e-6);
    assert_eq!(folder.run(LINE).code, 1);
    folder.run(&format!("{LINE} --tolerance 1e-5")).ok();
}

#[test]
fn nan_must_meet_nan() {
    let (folder, answer) = set_up();
    expect(&folder, &answer, |output| output[49] = f32::NAN);
    let outcome = folder.run(&format!("{LINE} --tolerance 1e30"));
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("output[9, 4]: expected NaN, got "), "{}", outcome.stderr);
    // An input that is not a number gives an answer that is none, from there on.
    let mut x = noise::<f32>(30);
    x[9 * 3] = f32::NAN;
    folder.write("x.npy", npy(&[10, 3], &x));
    expect(&folder, &answer, |output| output[45..].fill(f32::NAN));
    let arrays =
        npz(&[("output", npy(&[10, 5], &[&answer.output.data()[..45], &[f32::NAN; 5]].concat()))]);
    folder.write("expected.npz", arrays);
    folder.run(LINE).ok();
}

#[test]
fn only_what_is_there_is_compared() {
    let (folder, answer) = set_up();
    folder.write("expected.npz", npz(&[("h_n", npy(&[1, 5], answer.h_n.data()))]));
    let outcome = folder.run(LINE).ok();
    assert!(
        outcome.stdout.contains("h_n") && !outcome.stdout.contains("c_n"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn the_error_against_float64_stands_beside_pytorchs() {
    let (folder, answer) = set_up();
    let exact: Vec<f64> = wide(answer.output.data()).iter().map(|value| value + 1e-7).collect();
    let theirs: Vec<f32> = answer.output.data().iter().map(|value| value + 3e-6).collect();
    let rows: Vec<f64> = exact.chunks(5).step_by(3).flatten().copied().collect();
    let cases = [
        (10, exact.clone(), "every row of output"),
        (4, rows, "every 3rd row of output, 4 in all"),
    ];
    for (count, exact, words) in cases {
        let arrays = [("output", npy(&[10, 5], &theirs)), ("output_f64", npy(&[count, 5], &exact))];
        folder.write("expected.npz", npz(&arrays));
        let stdout = folder.run(LINE).ok().stdout;
        let line = format!("largest error against float64 ({words}): tidegate 1.0e-7, PyTorch 2.");
        assert!(stdout.contains(&line), "{line}: {stdout}");
    }
    let arrays = [("output", npy(&[10, 5], &theirs)), ("output_f64", npy(&[7, 5], &exact[..35]))];
    folder.write("expected.npz", npz(&arrays));
    assert!(folder.run(LINE).ok().stdout.contains("output_f64 [7, 5] is not every k-th row"));
}

#[test]
fn the_options_of_run_hold_here_too() {
    let (folder, answer) = set_up();
    expect(&folder, &answer, |_| {});
    folder.run(&format!("{LINE} --layer rnn --chunk 3 --threads 2 --quiet --output ours.npz")).ok();
    assert_eq!(folder.array("ours.npz", "output").data, wide(answer.output.data()));
    let outcome = folder.run(&format!("{LINE} --output -"));
    assert_eq!((outcome.code, &outcome.stdout[..]), (1, ""));
    assert!(outcome.stderr.contains("name a file"), "{}", outcome.stderr);
}
