//! `tidegate demo`, `inspect` and `convert`.

mod common;

use common::*;
use serde_json::{Value, json};
use tidegate::{Config, Mode};

#[test]
fn the_demo_agrees_with_pytorch_and_ends_with_what_to_try() {
    let folder = Folder::new();
    for line in ["", "demo"] {
        let stdout = folder.run(line).ok().stdout;
        for part in [
            "GRU(10, 20, num_layers=20)",
            "proj_size=8",
            "[5, 3, 20]",
            "[20, 3, 20]",
            "[4, 3, 8]",
            "from PyTorch",
            "from float64",
            "per step",
        ] {
            assert!(stdout.contains(part), "{part}: {stdout}");
        }
        assert!(stdout.trim_end().ends_with("tidegate inspect model.pt"), "{stdout}");
    }
    assert!(folder.names().is_empty());
}

#[test]
fn help_and_version_go_to_standard_output() {
    let folder = Folder::new();
    for line in [
        "--help",
        "help",
        "demo --help",
        "inspect --help",
        "run --help",
        "convert --help",
        "verify --help",
    ] {
        let outcome = folder.run(line).ok();
        assert!(outcome.stdout.contains("Usage: tidegate"), "{line}");
        assert!(!line.ends_with(" --help") || outcome.stdout.contains("Example"), "{line}");
        assert_eq!(outcome.stderr, "");
    }
    assert_eq!(
        folder.run("--version").ok().stdout,
        format!("tidegate {}\n", env!("CARGO_PKG_VERSION"))
    );
}

/// A folder with `model.safetensors`: an LSTM under `encoder.`, an RNN under `decoder.rnn.`, and a
/// head.
fn two_layers() -> Folder {
    let folder = Folder::new();
    let first = layer::<f32>(lstm(|config| (config.bidirectional, config.proj_size) = (true, 2)));
    let second =
        layer::<f32>(Config { bias: false, num_layers: 2, ..Config::new(Mode::RnnTanh, 3, 4) });
    save(&folder.path("model.safetensors"), &[("encoder.", &first), ("decoder.rnn.", &second)]);
    folder
}

#[test]
fn inspect_lists_the_layers() {
    let folder = two_layers();
    let stdout = folder.run("inspect model.safetensors").ok().stdout;
    // 2 directions: w_ih 20 x 3, w_hh 20 x 2, two biases of 20, w_hr 2 x 5.
    let encoder = stdout.lines().find(|line| line.starts_with("encoder ")).unwrap();
    for part in
        ["LSTM(3, 5, proj_size=2, bidirectional=True)", "300 parameters", "1,200 bytes", "float32"]
    {
        assert!(encoder.contains(part), "{part}: {stdout}");
    }
    let decoder = stdout.lines().find(|line| line.starts_with("decoder.rnn ")).unwrap();
    assert!(decoder.contains("RNN(3, 4, num_layers=2, bias=False)"), "{stdout}");
    assert_eq!(encoder.find("LSTM("), decoder.find("RNN("));
    assert_eq!(encoder.find("parameters"), decoder.find("parameters"), "{stdout}");
    assert!(stdout.contains("tanh or relu") && stdout.contains("head.weight"), "{stdout}");
}

#[test]
fn inspect_as_json_is_an_array_of_objects() {
    let folder = two_layers();
    let stdout = folder.run("inspect model.safetensors --json").ok().stdout;
    let Value::Array(mut layers) = serde_json::from_str(&stdout).unwrap() else {
        panic!("{stdout}")
    };
    layers.sort_by_key(|layer| layer["prefix"].to_string());
    assert_eq!(layers.len(), 2);
    assert_eq!(
        layers[1],
        json!({
            "prefix": "encoder.", "kind": "LSTM", "cell": false,
            "constructor": "LSTM(3, 5, proj_size=2, bidirectional=True)",
            "input_size": 3, "hidden_size": 5, "num_layers": 1, "bias": true, "bidirectional": true,
            "proj_size": 2, "parameters": 300, "bytes": 1200, "dtype": "float32",
        })
    );
    assert_eq!((&layers[0]["kind"], &layers[0]["bias"]), (&json!("RNN"), &json!(false)));
}

#[test]
fn a_converted_checkpoint_is_the_same_checkpoint() {
    let folder = two_layers();
    folder.write("x.npy", npy(&[4, 3], &noise::<f32>(12)));
    folder.run("run model.safetensors x.npy --layer encoder --output before.npz").ok();
    let outcome = folder.run("convert model.safetensors all.safetensors").ok();
    assert!(outcome.stderr.contains("wrote all.safetensors"), "{}", outcome.stderr);
    assert_eq!(
        folder.run("inspect all.safetensors").ok().stdout,
        folder.run("inspect model.safetensors").ok().stdout
    );
    folder.run("convert model.safetensors one.safetensors --layer encoder").ok();
    for (file, layer) in [("all", "--layer encoder"), ("one", "")] {
        folder.run(&format!("run {file}.safetensors x.npy {layer} --output after.npz")).ok();
        assert!(folder.read("after.npz") == folder.read("before.npz"), "{file}");
    }
    let one = folder.run("inspect one.safetensors").ok().stdout;
    assert!(one.contains("encoder") && !one.contains("decoder") && !one.contains("head"), "{one}");
}
