//! Threads that share a call run on cores of their own.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;

use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};
use tidegate::{Config, Generator, Mode, Options, RnnBase, View, set_num_threads};

/// Moves a thread to `core`, where it need not stay: it may run on all that the calling thread may run on.
fn go_to(thread: Pid, core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(Some(thread), &only).unwrap();
    sched_setaffinity(Some(thread), &sched_getaffinity(None).unwrap()).unwrap();
}

/// The core that a thread of this process runs on or ran on last: the 39th field of its `stat`, whose second is in
/// parentheses and may hold anything.
fn core_of(thread: Pid) -> usize {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().nth(39 - 3).unwrap().parse().unwrap()
}

/// How often a thread of this process has got to run: the third field of its `schedstat`; 0 where the system does not say.
fn runs_of(thread: Pid) -> usize {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
    let stat = stat.unwrap_or_default();
    stat.split_whitespace().nth(2).map_or(0, |runs| runs.parse().unwrap())
}

/// The threads of this process.
fn threads() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .map(|task| task.unwrap().file_name().into_string().unwrap().parse().unwrap())
        .map(|thread| Pid::from_raw(thread).unwrap())
        .collect()
}

/// How many threads of the whole machine run or wait for a core, the calling one among them: the fourth field,
/// `running/all`.
fn running() -> usize {
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let (running, _) = load.split_whitespace().nth(3).unwrap().split_once('/').unwrap();
    running.parse().unwrap()
}

/// Calls `call` until the member of the team has been parked on the caller's core 100 times before, and finds it on
/// another after three quarters of these, at least.
///
/// It does not park there each time, and on some machines never. What else runs may need the other cores, so calls
/// beside it are not counted: those with more than this thread before, or more than this thread and the member after. Nor are
/// those that have not woken it: where it came too late for several, most do without.
fn ends_on_two_cores(caller: Pid, member: Pid, call: impl Fn()) {
    let (mut together, mut apart) = (0, 0);
    for _ in 0..2000 {
        call();
        go_to(member, core_of(caller));
        std::thread::sleep(Duration::from_millis(1));
        if core_of(member) == core_of(caller) && running() == 1 {
            let runs = runs_of(member);
            call();
            let is_apart = core_of(member) != core_of(caller);
            if running() <= 2 && (runs == 0 || runs_of(member) > runs) {
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

#[test]
fn a_thread_parked_on_the_callers_core_wakes_up_on_another() {
    let caller = gettid();
    let allowed = sched_getaffinity(None).unwrap();
    if allowed.count() < 2 {
        return;
    }
    let layer = RnnBase::<f32>::with_generator(
        Config::new(Mode::Lstm, 96, 96),
        &mut Generator::manual_seed(1),
    )
    .unwrap();
    let x = vec![0.25; 100 * 8 * 96];
    let call = |rows| {
        let x = View::new(&x[..100 * rows * 96], &[100, rows, 96]).unwrap();
        layer.forward_with(x, Options::default()).unwrap();
    };
    tidegate::wake_from(0); // short calls are to be shared out
    let before = threads();
    set_num_threads(2);
    call(8);
    let members: Vec<_> = threads().into_iter().filter(|thread| !before.contains(thread)).collect();
    let &[member] = &members[..] else { panic!("threads {members:?} have come") };
    ends_on_two_cores(caller, member, || call(1)); // each thread has units, and waits for the other at every step
    ends_on_two_cores(caller, member, || call(8)); // each has rows
    assert_eq!(sched_getaffinity(None).unwrap(), allowed);
    // On a busy machine a member that was woken takes its core back when it gets to run.
    let mut waits = 0;
    while sched_getaffinity(Some(member)).unwrap() != allowed && waits < 1000 {
        std::thread::sleep(Duration::from_millis(10));
        waits += 1;
    }
    assert_eq!(sched_getaffinity(Some(member)).unwrap(), allowed, "it was not given back a core");
}
