//! The project's chores: `cargo xtask help`.

mod bench;
mod inventory;
mod project;
mod python;
mod suite;
mod trust;

use std::process::ExitCode;

const HELP: &str = "\
The project's chores.

usage: cargo xtask COMMAND

  test               every Rust test and doctest, the fixtures against PyTorch, and the Python package, which
                     is built into target/python-package
  fixtures           ask PyTorch again and write fixtures/ and the demo's files
  fixtures --check   ask PyTorch again and compare with what is there
  bench              the grid of shapes against the limit of the machine; takes the options of
                     tidegate bench
  bench --peers      the same beside PyTorch, ONNX Runtime and OpenVINO, which are installed into
                     target/bench-python, and tract, rten, candle and burn, which are compiled;
                     [--filter TEXT] [--threads 1,2] [--rounds N] [--record]
  trust              what shows the promises of SECURITY.md beside the tests, one after the other: hours
  trust fuzz [N]     each fuzz target for N seconds, 1800 if not given (nightly Rust, cargo-fuzz); with
                     --if-possible after N, a warning where these are missing
  trust miri         small calls under Miri (nightly Rust with miri and rust-src): five minutes
  trust address      the tests of the core with the address sanitizer (nightly Rust)
  trust soak         a million calls of changing shapes, a stream of ten million steps
  trust audit        licences, sources and known vulnerabilities of what is depended on (cargo-deny)
  help               this text

PyTorch goes into target/python when it is first needed. pip's own settings apply, so an index with
the CPU build (PIP_INDEX_URL), which is enough, makes that a small download.

environment:
  TIDEGATE_PYTHON    a Python that has the packages of fixtures/requirements.txt, instead of target/python
  CI                 if set, what cannot run (no Python, no real data) is a failure and not a note
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["test"] => suite::test(),
        ["fixtures"] => python::need().and_then(|python| python.fixtures(&[])),
        ["fixtures", "--check"] => python::need().and_then(|python| python.fixtures(&["--check"])),
        ["bench", ref options @ ..] => bench::bench(options),
        ["trust", ref part @ ..] => trust::trust(part),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("xtask: no command `{}`; see `cargo xtask help`", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
