//! Data on standard output, everything else on standard error, and nothing that a pipe cannot read.

mod common;

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use common::*;

/// A folder with an LSTM and an input of `steps` steps.
fn set_up(steps: usize) -> Folder {
    let folder = Folder::new();
    save(&folder.path("model.safetensors"), &[("rnn.", &layer::<f32>(lstm(|_| {})))]);
    folder.write("x.npy", npy(&[steps, 3], &noise::<f32>(3 * steps)));
    folder
}

const TO_PIPE: [&str; 5] = ["run", "model.safetensors", "x.npy", "--output", "-"];

#[test]
fn standard_output_holds_data_alone() {
    let folder = set_up(50);
    let outcome = folder.run(&TO_PIPE.join(" ")).ok();
    assert_eq!(outcome.stdout.lines().count(), 50);
    assert!(
        outcome
            .stdout
            .split([',', '\n'])
            .filter(|text| !text.is_empty())
            .all(|text| text.parse::<f32>().is_ok())
    );
    assert_eq!(outcome.stderr, "");
}

#[test]
fn what_was_written_is_said_on_standard_error_unless_quiet() {
    let folder = set_up(50);
    let outcome = folder.run("run model.safetensors x.npy --output out.npz").ok();
    assert_eq!(outcome.stdout, "");
    assert!(
        outcome
            .stderr
            .starts_with("wrote out.npz: output [50, 5], h_n [1, 5], c_n [1, 5]; 50 steps in "),
        "{}",
        outcome.stderr
    );
    let outcome = folder.run("run model.safetensors x.npy --output out.npz --quiet").ok();
    assert_eq!((outcome.stdout, outcome.stderr), (String::new(), String::new()));
}

/// Runs with standard output in a pipe whose reader takes `count` bytes and goes away.
fn read_and_close(command: &mut Command, count: usize) -> (i32, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut vec![0; count]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    // Longer than the buffer of any pipe.
    let folder = set_up(100_000);
    assert_eq!(read_and_close(&mut folder.command(&TO_PIPE), 100), (0, String::new()));
    for line in
        [&["inspect", "model.safetensors"][..], &["demo"], &["run", "model.safetensors", "x.npy"]]
    {
        assert_eq!(read_and_close(&mut folder.command(line), 0), (0, String::new()), "{line:?}");
    }
}

#[test]
fn neither_bars_nor_colours_in_a_pipe() {
    // Long enough to be done in pieces, whose progress a terminal would show.
    let folder = Folder::new();
    let config = tidegate::Config::new(tidegate::Mode::RnnTanh, 512, 512);
    save(&folder.path("model.safetensors"), &[("", &layer::<f32>(config))]);
    folder.write("x.npy", npy(&[30_000, 512], &vec![0.1f32; 30_000 * 512]));
    let outcome =
        folder.run("run model.safetensors x.npy --nonlinearity tanh --output out.npy").ok();
    assert!(!outcome.stderr.contains(['\x1b', '\r']), "{:?}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1);
    // The pieces give the bits of one call.
    let pieces = folder.read("out.npy");
    folder
        .run("run model.safetensors x.npy --nonlinearity tanh --chunk 99999 --output out.npy")
        .ok();
    assert!(folder.read("out.npy") == pieces);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error() {
    let folder = set_up(50);
    for line in [&TO_PIPE[..], &["inspect", "model.safetensors"], &["demo"]] {
        let mut command = folder.command(line);
        let outcome =
            outcome(command.stdout(File::options().write(true).open("/dev/full").unwrap()));
        assert_eq!(outcome.code, 1, "{line:?}");
        assert!(outcome.stderr.starts_with("tidegate: standard output: "), "{}", outcome.stderr);
    }
}
