//! `cargo xtask test`: everything that can be tested here, and a line that says what was.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::project::{cargo, in_ci, real_data, shown};
use crate::python;

/// Runs every test; nothing is skipped in silence.
///
/// # Errors
/// If a test fails, or if in CI something is missing.
pub(crate) fn test() -> Result<(), String> {
    // First what can be missing: a failure in CI should not wait for the build.
    let real_data = real_data().is_dir();
    if !real_data {
        let reason = "the real recordings (shared/real/speech beside the checkout) are not here";
        if in_ci() {
            return Err(reason.to_owned());
        }
        eprintln!("xtask: WARNING: {reason}: the tests on them will NOT run");
    }
    let python = python::want()?;

    let counts = rust_tests()?;
    if let Some(python) = &python {
        python.fixtures(&["--check"])?;
        python.package()?;
    }

    let ran = |there: bool, what: &str| format!("{what} {}", if there { "yes" } else { "NOT RUN" });
    println!(
        "xtask test: {} tests and doctests passed, {} ignored; fixtures and Python package against PyTorch: {}; {}",
        counts.passed,
        counts.ignored,
        if python.is_some() { "checked" } else { "NOT RUN" },
        ran(real_data, "real recordings:"),
    );
    Ok(())
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds a line like `test result: ok. 15 passed; 0 failed; 2 ignored; 0 measured; ...`; other lines add nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        let words: Vec<&str> =
            result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(count) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

/// All tests of the workspace in one cargo, whose output is passed on line by line and counted.
fn rust_tests() -> Result<Counts, String> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--release", "--no-fail-fast"]);
    let shown = shown(&command);
    println!("xtask: {shown}");
    let failed = |error| format!("`{shown}`: {error}");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut counts = Counts::default();
    let output = child.stdout.take().expect("standard output is piped");
    for line in BufReader::new(output).lines() {
        let line = line.map_err(failed)?;
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait().map_err(failed)?;
    match (status.success(), counts) {
        (true, Counts { passed: 0, .. }) => Err(format!("`{shown}` ran no test")),
        (true, counts) => Ok(counts),
        (false, Counts { passed, failed, .. }) => {
            Err(format!("`{shown}` failed: {failed} tests failed, {passed} passed; {status}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn results_add_up_and_other_lines_do_not_count() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test says_5_passed ... ok",
            "test result: ok. 15 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.26s",
            "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.00s",
        ] {
            counts.add(line);
        }
        assert_eq!(counts, Counts { passed: 16, failed: 3, ignored: 2 });
    }
}
