//! `cargo xtask trust`: what shows the promises of SECURITY.md that the tests alone do not.

use std::process::{Command, Stdio};

use crate::project::{cargo, root, run, target};

/// The fuzz targets, `[[bin]]` of fuzz/Cargo.toml.
const TARGETS: [&str; 6] = ["safetensors", "torch", "numpy", "pickle", "csv", "layers"];

/// Seconds of fuzzing each target, where nothing else is said.
const SECONDS: u64 = 1800;

/// The crates with unsafe blocks that a file or a call reaches.
const CORE: [&str; 6] = ["-p", "tidegate-simd", "-p", "tidegate", "-p", "tidegate-weights"];

/// Runs one part, or all.
///
/// # Errors
/// What failed, or what is missing to run it.
pub(crate) fn trust(arguments: &[&str]) -> Result<(), String> {
    match arguments {
        [] => fuzz(SECONDS)
            .and_then(|()| miri())
            .and_then(|()| address())
            .and_then(|()| soak())
            .and_then(|()| audit()),
        ["fuzz"] => fuzz(SECONDS),
        ["fuzz", seconds] => {
            fuzz(seconds.parse().map_err(|_| format!("{seconds}: not a number of seconds"))?)
        }
        ["fuzz", seconds, "--if-possible"] => {
            let missing = missing_for_fuzzing();
            if let Some(missing) = missing {
                eprintln!("xtask: WARNING: {missing}: the fuzz targets did NOT run");
                return Ok(());
            }
            trust(&["fuzz", seconds])
        }
        ["miri"] => miri(),
        ["address"] => address(),
        ["soak"] => soak(),
        ["audit"] => audit(),
        _ => Err(format!("no such part: {}", arguments.join(" "))),
    }
}

/// A cargo of the nightly toolchain.
fn nightly() -> Command {
    let mut command = Command::new("cargo");
    // This program may have been started with the variables of another toolchain.
    command.arg("+nightly").current_dir(root()).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn missing_for_fuzzing() -> Option<&'static str> {
    if !succeeds(nightly().arg("--version")) {
        return Some("no nightly toolchain (rustup toolchain install nightly)");
    }
    (!succeeds(nightly().args(["fuzz", "--version"])))
        .then_some("no cargo-fuzz (cargo install cargo-fuzz)")
}

/// Runs each target for `seconds`. An input takes 20 seconds and an allocation 64 MB at most.
fn fuzz(seconds: u64) -> Result<(), String> {
    if let Some(missing) = missing_for_fuzzing() {
        return Err(missing.to_owned());
    }
    run(Command::new("python3").arg(root().join("fuzz/seeds.py")))?;
    for name in TARGETS {
        let limits =
            ["-timeout=20", "-malloc_limit_mb=64", "-rss_limit_mb=4096", "-print_final_stats=1"];
        let time = format!("-max_total_time={seconds}");
        run(nightly().args(["fuzz", "run", name, "--", &time]).args(limits))?;
    }
    Ok(())
}

/// Small calls, the team of threads and the views, by an interpreter that knows what is undefined.
fn miri() -> Result<(), String> {
    let miri = |arguments: &[&str]| {
        let folder = target().join("miri");
        // The clock is real, and the threads of the team never end.
        // Four cores, or no threads would wait for one another: never more do than there are cores.
        let flags = "-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-num-cpus=4";
        let mut command = nightly();
        command.args(["miri", "test", "--target-dir"]).arg(folder).args(arguments);
        run(command.env("MIRIFLAGS", flags))
    };
    miri(&["-p", "tidegate-simd", "--lib"])?;
    miri(&[
        "-p",
        "tidegate",
        "--lib",
        "--",
        "team::",
        "exchange::",
        "buffer::",
        "view::",
        "rows::",
    ])?;
    miri(&["-p", "tidegate", "--test", "undefined"])
}

/// All tests of the core, at every instruction set, with the address sanitizer.
fn address() -> Result<(), String> {
    let host =
        Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc: {error}"))?;
    let host = String::from_utf8_lossy(&host.stdout).into_owned();
    let host =
        host.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc tells no host")?;
    let mut command = nightly();
    command
        .args(["test", "--release", "--target", host, "--target-dir"])
        .arg(target().join("address"));
    command.args(CORE).args(["--lib", "--tests"]);
    // Instructions are counted elsewhere: the sanitizer adds its own. An allocation that is too large is an error here,
    // not a bug; the team's threads live as long as the program.
    command
        .args(["--", "--skip", "no_call_takes_more_instructions_than_it_did"])
        .env("RUSTFLAGS", "-Zsanitizer=address");
    run(command.env("ASAN_OPTIONS", "allocator_may_return_null=1:detect_leaks=0"))
}

/// A million calls of changing shapes and ten million steps.
fn soak() -> Result<(), String> {
    let mut command = cargo();
    command.args(["test", "--release", "-p", "tidegate", "--test", "soak", "--", "--nocapture"]);
    run(command.env("TIDEGATE_SOAK", "50"))
}

/// Licences, sources and known vulnerabilities of what is depended on: deny.toml.
fn audit() -> Result<(), String> {
    if !succeeds(cargo().args(["deny", "--version"])) {
        return Err("no cargo-deny (cargo install cargo-deny)".to_owned());
    }
    run(cargo().args(["deny", "--all-features", "check"]))
}
