//! Threads that wait for one another run on cores of their own.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "moves threads to a core")]

use std::fs;
use std::time::Duration;

use tidegate::{Config, Generator, Mode, Options, RnnBase, View, set_num_threads};

/// The cores that thread `thread` of this process may run on.
fn allowed(thread: libc::pid_t) -> libc::cpu_set_t {
    // SAFETY: the set is as large as it is said to be, and one of zeros is the empty one.
    unsafe {
        let mut allowed: libc::cpu_set_t = core::mem::zeroed();
        let got = libc::sched_getaffinity(thread, size_of_val(&allowed), &raw mut allowed);
        assert_eq!(got, 0);
        allowed
    }
}

fn allow(thread: libc::pid_t, cores: &libc::cpu_set_t) {
    // SAFETY: the set is as large as it is said to be.
    let set = unsafe { libc::sched_setaffinity(thread, size_of_val(cores), cores) };
    assert_eq!(set, 0);
}

/// Moves a thread to `core`, where it need not stay.
fn go_to(thread: libc::pid_t, core: usize) {
    let before = allowed(thread);
    // SAFETY: a set of zeros is the empty one, and the system has named the core.
    let only = unsafe {
        let mut only: libc::cpu_set_t = core::mem::zeroed();
        libc::CPU_SET(core, &mut only);
        only
    };
    allow(thread, &only);
    allow(thread, &before);
}

/// The core that a thread of this process runs on or ran on last: the 39th field of its `stat`, whose second is in
/// parentheses and may hold anything.
fn core_of(thread: libc::pid_t) -> usize {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().nth(39 - 3).unwrap().parse().unwrap()
}

/// How many threads of the whole machine run or wait for a core, the calling one among them: the fourth field,
/// `running/all`.
fn running() -> usize {
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let (running, _) = load.split_whitespace().nth(3).unwrap().split_once('/').unwrap();
    running.parse().unwrap()
}

#[test]
fn a_thread_woken_on_the_callers_core_does_not_stay_there() {
    // SAFETY: it has no arguments.
    let caller = unsafe { libc::gettid() };
    // SAFETY: it is a set.
    if unsafe { libc::CPU_COUNT(&allowed(caller)) } < 2 {
        return;
    }
    let layer = RnnBase::<f32>::with_generator(
        Config::new(Mode::Lstm, 64, 128),
        &mut Generator::manual_seed(1),
    )
    .unwrap();
    let x = vec![0.25; 100 * 64];
    let call = || {
        let x = View::new(&x, &[100, 1, 64]).unwrap();
        layer.forward_with(x, Options::default()).unwrap();
    };
    let threads = || -> Vec<libc::pid_t> {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        tasks
            .map(|task| task.unwrap().file_name().into_string().unwrap().parse().unwrap())
            .collect()
    };
    let before = threads();
    set_num_threads(2);
    call();
    let members: Vec<_> = threads().into_iter().filter(|thread| !before.contains(thread)).collect();
    let &[member] = &members[..] else { panic!("threads {members:?} have come") };
    // The member parks on the caller's core, where the system wakes it: not every time, and on some machines never.
    // What else runs may need the other cores, so calls beside it are not counted: those with more than this thread
    // before, or more than this thread and the member after.
    let (mut together, mut apart) = (0, 0);
    for _ in 0..2000 {
        call();
        go_to(member, core_of(caller));
        std::thread::sleep(Duration::from_millis(1));
        if core_of(member) == core_of(caller) && running() == 1 {
            call();
            let is_apart = core_of(member) != core_of(caller);
            if running() <= 2 {
                together += 1;
                apart += usize::from(is_apart);
            }
        }
        if together == 100 {
            break;
        }
    }
    println!(
        "parked on the caller's core {together} times, on another after the call {apart} times"
    );
    assert!(4 * apart >= 3 * together, "{apart} of {together}");
}
