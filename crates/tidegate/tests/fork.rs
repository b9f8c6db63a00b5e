//! A forked child has none of its parent's threads: it must not wait for them, but start its own.
#![cfg(unix)]
#![allow(unsafe_code, reason = "fork")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate::{Config, Generator, Mode, Options, RnnBase, Tensor, View, set_num_threads};

fn run(layer: &RnnBase<f32>, batch: usize) -> Tensor<f32> {
    let x = vec![0.25; 60 * batch * 40];
    let x = View::new(&x, &[60, batch, 40]).unwrap();
    layer.forward_with(x, Options::default()).unwrap().output
}

/// How many threads this process has; two where that cannot be told.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(2, Iterator::count)
}

#[test]
fn a_child_computes_what_its_parent_computes() {
    let config = Config::new(Mode::Gru, 40, 150);
    let layer = RnnBase::with_generator(config, &mut Generator::manual_seed(1)).unwrap();
    tidegate::wake_from(0); // short calls are to be shared out
    set_num_threads(1);
    let want = [1, 8].map(|batch| run(&layer, batch));
    set_num_threads(2);
    // The team is there, in the middle of its spinning.
    assert!([1, 8].map(|batch| run(&layer, batch)) == want);
    forks(&layer, &want, 2);
    // The parent's threads still work.
    assert!([1, 8].map(|batch| run(&layer, batch)) == want);
    // And while other threads are in the middle of calls, with or without the team.
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    assert!([1, 8].map(|batch| run(&layer, batch)) == want);
                }
            });
        }
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(3));
            forks(&layer, &want, 2);
        }
        ends.store(true, Ordering::Relaxed);
    });
}

/// Forks, and waits for a child that computes `want` with at least `least` threads.
fn forks(layer: &RnnBase<f32>, want: &[Tensor<f32>; 2], least: usize) {
    // SAFETY: the child computes, allocates as glibc and musl allow after a fork, and exits without
    // running anything of the test harness.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let same = [1, 8].map(|batch| run(layer, batch)) == *want;
        let status = if !same { 3 } else { i32::from(threads() < least) };
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) };
    }
    assert!(child > 0);
    let (start, mut status) = (Instant::now(), 0);
    // SAFETY: `status` is writable, `child` is this process's child.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        if start.elapsed() > Duration::from_secs(60) {
            // SAFETY: as above.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child waits for its parent's threads");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status}");
}
