//! Trouble on the way: a killed program, a disk that fills, files that are anything but what they should be.
#![cfg(unix)]

mod common;

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::*;
use tidegate::{Config, Mode};

/// A folder with an LSTM, an input of `steps` steps, and an output that was there before.
fn set_up(steps: usize) -> Folder {
    let folder = Folder::new();
    save(&folder.path("model.safetensors"), &[("rnn.", &layer::<f32>(lstm(|_| {})))]);
    save(&folder.path("big.safetensors"), &[("", &layer::<f32>(Config::new(Mode::Gru, 64, 512)))]);
    folder.write("x.npy", npy(&[steps, 3], &noise::<f32>(3 * steps)));
    folder.write("out.npz", "old").write("out.safetensors", "old");
    folder
}

/// Command lines that write a file, and which.
const WRITERS: [(&str, &str); 2] = [
    ("run model.safetensors x.npy --output out.npz --quiet", "out.npz"),
    ("convert big.safetensors out.safetensors", "out.safetensors"),
];

/// Sends `signal` after each of many delays; the output is the old file or the new one every time.
fn killed(signal: &str, leaves_nothing: bool) {
    let folder = set_up(30_000);
    let before = folder.names();
    for (line, output) in WRITERS {
        let words: Vec<_> = line.split_whitespace().collect();
        let start = Instant::now();
        folder.run(line).ok();
        let (takes, whole) = (start.elapsed(), folder.read(output));
        let (mut kept, mut written) = (0, 0);
        for k in 0..60 {
            folder.write(output, "old");
            let mut child = folder.command(&words).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(takes.mul_f64(f64::from(k) / 40.0));
            let kill = format!("kill -{signal} {}", child.id());
            Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status().unwrap();
            child.wait().unwrap();
            match folder.read(output) {
                file if file == b"old" => kept += 1,
                file if file == whole => written += 1,
                file => panic!("{line}, kill {k}: {} bytes, whole are {}", file.len(), whole.len()),
            }
            // A name of its own, so that nobody takes it for a result.
            let left: Vec<_> =
                folder.names().into_iter().filter(|name| !before.contains(name)).collect();
            assert!(left.iter().all(|name| name.ends_with(".partial")), "{left:?}");
            assert!(left.is_empty() || !leaves_nothing, "{line}, kill {k}: {left:?}");
        }
        println!("{line}: kept {kept} times, written {written} times");
        assert!(kept > 0 && written > 0, "{line}: kept {kept} times, written {written} times");
    }
}

#[test]
fn killed_at_any_moment_the_output_is_old_or_new() {
    killed("KILL", false);
}

#[test]
fn interrupted_at_any_moment_nothing_is_left_beside_it() {
    killed("INT", true);
    killed("TERM", true);
}

#[test]
fn a_disk_that_fills_is_an_error_and_keeps_the_old_file() {
    // A limit on the size of files stands for the disk: the write that exceeds it fails likewise.
    let folder = set_up(30_000);
    folder.write("big.npy", npy(&[3000, 512], &vec![0.5f32; 3000 * 512]));
    let before = folder.names();
    for (line, output) in [
        ("run model.safetensors x.npy --output out.npz", "out.npz"),
        ("run model.safetensors x.npy --output out.npy", "out.npy"),
        ("run model.safetensors x.npy --output out.csv", "out.csv"),
        ("convert big.safetensors out.safetensors", "out.safetensors"),
    ] {
        for output in ["out.npz", "out.npy", "out.csv", "out.safetensors"] {
            folder.write(output, "old");
        }
        let script =
            format!("ulimit -f 64; trap '' XFSZ; exec {} {line}", env!("CARGO_BIN_EXE_tidegate"));
        let mut shell = Command::new("sh");
        let Outcome { code, stdout, stderr } =
            outcome(shell.args(["-c", &script]).current_dir(folder.path(".")));
        assert_eq!((code, &stdout[..], stderr.lines().count()), (1, "", 1), "{line}: {stderr}");
        assert!(stderr.contains(output) && stderr.contains("File too large"), "{line}: {stderr}");
        assert_eq!(folder.read(output), b"old", "{line}");
        let left = folder.names().into_iter().filter(|name| !before.contains(name));
        assert_eq!(left.collect::<Vec<_>>(), ["out.csv", "out.npy"], "{line}");
    }
}

/// A file of `bytes` zeros that takes no room on the disk.
fn sparse(folder: &Folder, name: &str, bytes: u64) {
    File::create(folder.path(name)).unwrap().set_len(bytes).unwrap();
}

#[test]
fn files_that_are_anything_else_are_errors_of_one_line() {
    const TERABYTE: u64 = 1 << 40;
    let folder = set_up(10);
    let npz = npz(&[("input", npy(&[2, 3], &[0.5f32; 6]))]);
    for suffix in ["pt", "safetensors", "npz", "npy", "csv"] {
        folder
            .write(&format!("empty.{suffix}"), "")
            .write(&format!("byte.{suffix}"), "x")
            .write(&format!("noise.{suffix}"), [0xa7, 0, 0xff, 0x1b].repeat(5000))
            .write(&format!("image.{suffix}"), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
            .write(&format!("cut.{suffix}"), &npz[..npz.len() / 2]);
        std::fs::create_dir(folder.path(&format!("folder.{suffix}"))).unwrap();
        symlink(folder.path(&format!("loop.{suffix}")), folder.path(&format!("loop.{suffix}")))
            .unwrap();
        symlink(folder.path("nothing"), folder.path(&format!("dangling.{suffix}"))).unwrap();
        sparse(&folder, &format!("enormous.{suffix}"), TERABYTE);
    }
    folder.run("run model.safetensors x.npy --output x.npz").ok();
    let kinds =
        ["empty", "byte", "noise", "image", "cut", "folder", "loop", "dangling", "enormous"];
    for kind in kinds {
        for (line, suffixes) in [
            ("inspect FILE", &["pt", "safetensors", "npz"][..]),
            ("run FILE x.npy", &["pt", "safetensors"]),
            ("run model.safetensors FILE", &["npy", "npz", "csv"]),
            ("run model.safetensors x.npy --state FILE", &["npz"]),
            ("run model.safetensors x.npy --lengths FILE", &["npy"]),
            ("verify model.safetensors x.npy FILE", &["npz"]),
            ("verify FILE x.npy x.npz", &["pt"]),
            ("convert FILE new.safetensors", &["pt", "npz"]),
        ] {
            for suffix in suffixes {
                let file = format!("{kind}.{suffix}");
                let line = line.replace("FILE", &file);
                let Outcome { code, stdout, stderr } = limited(&folder, &line);
                let one_line = stderr.starts_with("tidegate: ") && stderr.lines().count() == 1;
                assert!(code == 1 && one_line, "{line}: status {code}, {stderr}");
                assert!(stdout.is_empty() && stderr.contains(&file), "{line}: {stderr}");
                assert!(stderr.len() < 1600, "{line}: {stderr}");
            }
        }
    }
}

/// Runs the program with 4 GB of addresses and 20 seconds of time.
fn limited(folder: &Folder, line: &str) -> Outcome {
    let script =
        format!("ulimit -v 4000000; ulimit -t 20; exec {} {line}", env!("CARGO_BIN_EXE_tidegate"));
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &script]).current_dir(folder.path(".")).output().unwrap();
    assert_eq!(output.status.signal(), None, "{line}: {:?}", output.status);
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_file_that_may_not_be_read_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = set_up(10);
    let path = folder.path("model.safetensors");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&path).is_ok() {
        eprintln!("NOT TESTED: this user may read every file");
        return;
    }
    let outcome = folder.run("run model.safetensors x.npy");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("model.safetensors: Permission denied"), "{}", outcome.stderr);
}

#[test]
fn a_pipe_that_never_ends_is_given_up_at_a_line_too_long() {
    let folder = set_up(10);
    let script = format!(
        "ulimit -v 4000000; yes 1, | tr -d '\\n' | {} run model.safetensors -",
        env!("CARGO_BIN_EXE_tidegate")
    );
    let mut shell = Command::new("sh");
    let Outcome { code, stderr, .. } =
        outcome(shell.args(["-c", &script]).current_dir(folder.path(".")));
    assert!(code == 1 && stderr.contains("standard input: line 1 is longer"), "{code} {stderr}");
}

#[test]
fn an_argument_that_is_no_text_is_bad_usage() {
    let folder = set_up(10);
    let Outcome { code, stderr, .. } =
        outcome(&mut folder.command(&[OsStr::from_bytes(b"\xff"), OsStr::new("x")]));
    assert!(code == 2 && stderr.lines().count() == 1, "{code} {stderr}");
}

/// There is nothing to do, however many times.
#[test]
fn very_many_steps_of_no_sequence_end_at_once() {
    let folder = set_up(10);
    folder.write("none.npy", npy_of("<f4", &[1 << 60, 0, 3], &[], false));
    folder.write("first.npy", npy_of("<f4", &[0, 1 << 60, 3], &[], false));
    for line in [
        "run model.safetensors none.npy --quiet",
        "run model.safetensors none.npy --quiet --chunk 7",
        "run model.safetensors first.npy --quiet --batch-first",
        "run model.safetensors first.npy --quiet --batch-first --chunk 7",
    ] {
        let Outcome { code, stderr, .. } = limited(&folder, line);
        assert!(code == 0 || code == 1 && stderr.lines().count() == 1, "{line}: {code} {stderr}");
    }
}

#[test]
fn names_from_a_file_do_no_harm_to_a_terminal() {
    let folder = set_up(10);
    let gru = layer::<f32>(Config::new(Mode::Gru, 3, 4));
    let long = "a".repeat(70_000) + ".";
    for (prefix, shown) in [("\u{1b}]0;x\u{7}\u{9b}.", "\\u{1b}]0;x"), (&long, "aaaa")] {
        save(&folder.path("odd.safetensors"), &[(prefix, &gru), ("b.", &gru)]);
        for line in ["inspect odd.safetensors", "run odd.safetensors x.npy"] {
            let Outcome { stdout, stderr, .. } = folder.run(line);
            let text = stdout + &stderr;
            assert!(text.contains(shown) && text.len() < 2000, "{line}: {text}");
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{line}: {text:?}");
        }
        let layer = prefix.trim_end_matches('.');
        let output =
            outcome(&mut folder.command(&["run", "odd.safetensors", "x.npy", "--layer", layer]));
        assert!(output.code == 0 && output.stdout.contains(shown), "{}", output.stderr);
        assert!(
            !output.stdout.contains(|c: char| c.is_control() && c != '\n'),
            "{}",
            output.stdout
        );
    }
}
