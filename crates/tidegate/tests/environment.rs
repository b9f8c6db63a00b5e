//! What the environment says.

use std::process::Command;

use tidegate::{num_threads, set_num_threads};

/// The usual number of threads of a process with `TIDEGATE_NUM_THREADS` set to `wanted`: of this test, run again.
fn usual(wanted: &str) -> usize {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_environment_says_how_many_threads", "--nocapture"])
        .env("TIDEGATE_NUM_THREADS", wanted)
        .env("TIDEGATE_TEST_CHILD", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, rest) = text.split_once("usual: ").unwrap_or_else(|| panic!("{text}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_environment_says_how_many_threads() {
    if std::env::var_os("TIDEGATE_TEST_CHILD").is_some() {
        println!("usual: {} ", num_threads());
        set_num_threads(5);
        assert_eq!(num_threads(), 5);
        return;
    }
    let offered = std::thread::available_parallelism().unwrap().get();
    assert_eq!(usual("3"), 3);
    assert_eq!(usual(" 7 "), 7);
    for nothing in ["", "0", "-1", "many"] {
        assert_eq!(usual(nothing), offered, "{nothing:?}");
    }
}
