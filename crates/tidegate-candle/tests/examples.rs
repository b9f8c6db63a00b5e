//! The examples, shortened: that they run, learn and leave what they say.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An example, which cargo builds beside the tests.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().join("examples");
    Command::new(folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

fn run(command: &mut Command) -> (String, Output) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    (text, output)
}

#[test]
fn forecast_beats_the_linear_model() {
    let folder = tempfile::tempdir().unwrap();
    let (text, _) = run(example("forecast").arg("--quick").arg("--output").arg(folder.path()));
    println!("{text}");
    for file in [
        "mackey-glass-learning.svg",
        "mackey-glass-forecast.svg",
        "lorenz-learning.svg",
        "lorenz-forecast.svg",
    ] {
        let svg = std::fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("<polyline"), "{file}");
    }
    for file in ["mackey-glass-gru", "mackey-glass-lstm", "lorenz-gru", "lorenz-lstm"] {
        assert!(folder.path().join(format!("{file}.safetensors")).exists(), "{file}");
    }
}

#[test]
fn charlm_learns_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let (text, checkpoint) = (folder.path().join("text"), folder.path().join("model.safetensors"));
    std::fs::write(&text, "the tide comes and the tide goes; ".repeat(200)).unwrap();
    let charlm = |steps: &str| {
        let mut command = example("charlm");
        let given: [(&str, &PathBuf); 2] = [("--text", &text), ("--checkpoint", &checkpoint)];
        for (name, value) in given {
            command.arg(name).arg(value);
        }
        command.args(["--hidden", "48", "--batch", "8", "--chunk", "32", "--steps", steps]);
        run(&mut command).0
    };
    let first = charlm("80");
    assert!(first.contains("after 80 steps"), "{first}");
    let second = charlm("40");
    assert!(second.contains("resumed after 80 steps"), "{second}");
    assert!(second.contains("after 120 steps"), "{second}");
    // Without steps it writes what it has learned.
    let sample = charlm("0");
    assert!(sample.contains("the tide"), "{sample}");
}
