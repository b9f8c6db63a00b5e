//! Short calls that come now and then do not wake the team, long ones do.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;

use tidegate::{Config, Generator, Mode, Options, RnnBase, Tensor, View, set_num_threads};

/// The threads of this process.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| task.unwrap().file_name().into_string().unwrap()).collect()
}

/// How many times `thread` has gone to sleep.
fn sleeps(thread: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn short_calls_now_and_then_leave_the_team_asleep() {
    const CALLS: usize = 64;
    let config = Config::new(Mode::Lstm, 64, 64);
    let layer = RnnBase::<f32>::with_generator(config, &mut Generator::manual_seed(1)).unwrap();
    let call = |steps: usize| {
        let x = Tensor::new(&[steps, 8, 64], vec![0.25; steps * 8 * 64]).unwrap();
        layer.forward_with(View::from(&x), Options::default()).unwrap()
    };
    let before = threads();
    set_num_threads(2);
    call(300); // 79,000,000 multiply-adds, for which the team is made
    let members: Vec<_> = threads().into_iter().filter(|thread| !before.contains(thread)).collect();
    let [member] = &members[..] else { panic!("threads {members:?} have come") };
    let sleeps_of = |steps| {
        std::thread::sleep(Duration::from_millis(50));
        let before = sleeps(member);
        for _ in 0..CALLS {
            call(steps);
            std::thread::sleep(Duration::from_millis(3)); // long enough to fall asleep
        }
        sleeps(member) - before
    };
    let short = sleeps_of(12); // 3,000,000 each
    assert!(short < CALLS / 4, "{short} times of {CALLS}");
    let long = sleeps_of(100); // 26,000,000 each
    assert!(long > CALLS / 2, "{long} times of {CALLS}");
    // Whoever asks for it has the team for short ones too.
    tidegate::wake_from(0);
    let short = sleeps_of(12);
    assert!(short > CALLS / 2, "{short} times of {CALLS}");
}
