//! `cargo xtask bench`: the grid of shapes, alone or beside other libraries.

use std::process::Command;

use crate::project::{cargo, root, run, target};
use crate::python;

/// Measures. With `--peers` the other arguments are those of bench/peers.py, without them those of
/// `tidegate bench`.
///
/// # Errors
/// If something cannot be built, installed or run.
pub(crate) fn bench(arguments: &[&str]) -> Result<(), String> {
    if !arguments.contains(&"--peers") {
        let program = ["run", "--release", "-p", "tidegate-cli", "--", "bench"];
        return run(cargo().args(program).args(arguments));
    }
    run(cargo().args(["build", "--release", "-p", "tidegate-bench"]))?;
    let peers = target().join("peers");
    let build = ["build", "--release", "--manifest-path", "bench/rust/Cargo.toml", "--target-dir"];
    run(cargo().args(build).arg(&peers))?;
    let python = python::environment("bench-python", "bench/requirements.txt")?;
    let program = |name| format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let mut command = Command::new(python);
    command.args(["-B", "-u", "bench/peers.py", "--worker"]);
    command.arg(target().join("release").join(program("tidegate-bench-worker")));
    command.arg("--rust").arg(peers.join("release").join(program("tidegate-bench-peers")));
    command.args(arguments.iter().filter(|argument| **argument != "--peers"));
    run(command.current_dir(root()))
}
