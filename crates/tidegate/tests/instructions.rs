//! How many instructions a call takes: what would make a kernel slower mostly shows here, on any
//! machine and however busy it is.
//!
//! A child process runs the call while this one steps it, instruction by instruction, and counts.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "fork and ptrace")]

use tidegate::{Config, Generator, Level, Mode, Options, OutputMut, RnnBase, View, Workspace};
use tidegate_testing::random::Random;

/// The child's exit status where the system does not let a process be traced.
const FORBIDDEN: i32 = 77;

/// Runs `f` in a child, and returns how many instructions it took from start to end; `None` where the
/// system forbids it.
fn instructions(f: impl FnOnce()) -> Option<usize> {
    // SAFETY: the child computes, and exits without running anything of the test harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: plain system calls.
        unsafe {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                libc::_exit(FORBIDDEN);
            }
            libc::raise(libc::SIGSTOP);
        }
        f();
        // SAFETY: ends the process.
        unsafe {
            libc::raise(libc::SIGSTOP);
            libc::_exit(0);
        }
    }
    let (mut count, mut status) = (0, 0);
    // SAFETY: `child` is stopped whenever it is told to go on, and `status` is writable.
    unsafe {
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == FORBIDDEN {
            return None;
        }
        assert!(libc::WIFSTOPPED(status), "the child ended with {status}");
        loop {
            assert_eq!(libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0), 0);
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert!(libc::WIFSTOPPED(status), "the child ended with {status}");
            if libc::WSTOPSIG(status) == libc::SIGSTOP {
                break;
            }
            count += 1;
        }
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, &raw mut status, 0);
    }
    Some(count)
}

/// Instructions of one warm step of a stream of one row, `H` inputs and units.
fn step(mode: Mode, hidden: usize, level: Level) -> Option<usize> {
    let config = Config::new(mode, hidden, hidden);
    let layer = RnnBase::<f32>::with_generator(config, &mut Generator::manual_seed(1)).unwrap();
    let mut stream = layer.at_level(level).stream(1).unwrap();
    let x = Random::new(2).vec(hidden, -1.0, 1.0);
    stream.step(&x).unwrap();
    instructions(|| assert!(stream.step(&x).is_ok()))
}

/// Instructions of one warm call, `H` inputs and units.
fn sequence(mode: Mode, hidden: usize, steps: usize, batch: usize, level: Level) -> Option<usize> {
    let config = Config::new(mode, hidden, hidden);
    let layer = RnnBase::<f32>::with_generator(config, &mut Generator::manual_seed(1)).unwrap();
    let layer = layer.at_level(level);
    let x: Vec<f32> = Random::new(2).vec(steps * batch * hidden, -1.0, 1.0);
    let x = View::new(&x, &[steps, batch, hidden]).unwrap();
    let mut output = layer.empty_output(x).unwrap();
    let mut workspace = Workspace::new();
    let mut call = || {
        let out = OutputMut {
            output: output.output.data_mut(),
            h_n: output.h_n.data_mut(),
            c_n: output.c_n.as_mut().map_or(&mut [], |c_n| c_n.data_mut()),
        };
        layer.forward_into(x, Options::default(), &mut workspace, out).unwrap();
    };
    call();
    instructions(call)
}

/// Counts with rustc 1.95 plus a tenth: another compiler may count a little differently. In the order
/// of the calls below.
const MOST: [(&str, [usize; 6]); 2] = [
    ("avx512", [720, 610, 890, 1650, 27_500, 21_000]),
    ("avx2", [1390, 1010, 1220, 3580, 43_600, 35_500]),
];

#[test]
fn no_call_takes_more_instructions_than_it_did() {
    if cfg!(debug_assertions) {
        eprintln!("not optimised: instructions are not counted");
        return;
    }
    tidegate::set_num_threads(1);
    for level in Level::available() {
        let Some((name, most)) = MOST.iter().find(|(name, _)| *name == level.name()) else {
            continue;
        };
        let counts = [
            step(Mode::Lstm, 16, level),
            step(Mode::Gru, 16, level),
            step(Mode::RnnTanh, 32, level),
            step(Mode::Lstm, 32, level),
            sequence(Mode::Lstm, 20, 2, 7, level),
            sequence(Mode::Gru, 20, 2, 7, level),
        ];
        println!("{name}: {counts:?}");
        if counts.contains(&None) {
            let message = "instructions are not counted: the system forbids ptrace";
            assert!(std::env::var_os("CI").is_none(), "{message}");
            eprintln!("{message}");
            return;
        }
        for (count, most) in counts.iter().flatten().zip(most) {
            assert!(count <= most, "{name}: {counts:?}, more than {most:?}");
        }
    }
}
