//! Long runs: memory stays flat over calls of changing shapes, and a long stream is the offline call.
//!
//! `TIDEGATE_SOAK=N` makes them `N` times as long: a million calls and ten million steps with 50.
#![allow(unsafe_code, reason = "an allocator that counts what is in use")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use tidegate::{
    Config, Mode, Options, Resets, RnnBase, Saved, State, Tensor, Upstream, set_num_threads,
};
use tidegate_testing::random::Random;

/// The system's allocator with a count of the bytes in use.
struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call is passed on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many times as long as usual to run.
fn length() -> usize {
    std::env::var("TIDEGATE_SOAK").map_or(1, |times| times.parse().expect("TIDEGATE_SOAK=N"))
}

/// One call of random sizes, forward and sometimes backward.
fn call(layer: &RnnBase<f32>, random: &mut Random, saved: &mut Saved<f32>) {
    let (steps, batch) = (random.between(1, 20), random.between(1, 9));
    let x: Vec<f32> = (0..steps * batch * 3).map(|_| random.uniform::<f32>(-1.0, 1.0)).collect();
    let x = Tensor::new(&[steps, batch, 3], x).unwrap();
    let lengths: Vec<usize> = (0..batch).map(|_| random.between(0, steps)).collect();
    let before: Vec<bool> = (0..steps * batch).map(|_| random.flip()).collect();
    let options = Options {
        lengths: random.flip().then_some(&lengths),
        resets: random.flip().then_some(Resets { before: &before, state: None }),
        ..Options::default()
    };
    if random.flip() {
        set_num_threads(random.between(1, 8));
    }
    if random.flip() {
        let result = layer.forward_train(&x, options, saved).unwrap();
        let upstream = Upstream { output: Some((&result.output).into()), ..Upstream::default() };
        layer.backward(&x, upstream, saved).unwrap();
    } else {
        layer.forward_with(&x, options).unwrap();
    }
}

/// One test, as both count the same memory.
#[test]
fn memory_stays_flat_and_a_long_stream_is_the_offline_call() {
    let layers: Vec<RnnBase<f32>> = Mode::ALL
        .iter()
        .map(|&mode| {
            let config = Config { num_layers: 2, bidirectional: true, ..Config::new(mode, 3, 33) };
            RnnBase::new(config).unwrap()
        })
        .collect();
    let (mut random, mut saved) = (Random::new(1), Saved::new());
    let mut rounds = Vec::new();
    for _ in 0..10 {
        for _ in 0..2_000 * length() {
            call(&layers[random.between(0, 3)], &mut random, &mut saved);
        }
        rounds.push(IN_USE.load(Ordering::Relaxed));
    }
    // `saved` and the team have reached their largest in the first rounds. A leak of one byte in a call would show.
    println!("bytes in use after each tenth of the calls: {rounds:?}");
    let (early, late) = (rounds[2], rounds[9]);
    assert!(late < early + 1_000, "bytes in use after each tenth of the calls: {rounds:?}");

    long_stream();
}

/// A stream of many steps: its last ones are a call from the state before them, and finite.
fn long_stream() {
    let layer = RnnBase::<f32>::new(Config::new(Mode::Lstm, 2, 5)).unwrap();
    let (mut stream, mut random) = (layer.stream(1).unwrap(), Random::new(2));
    let before = IN_USE.load(Ordering::Relaxed);
    for _ in 0..200_000 * length() {
        let x = [random.uniform::<f32>(-1.0, 1.0), 1.0];
        assert!(stream.step(&x).unwrap().iter().all(|h| h.is_finite()));
    }
    assert_eq!(IN_USE.load(Ordering::Relaxed), before);
    let (h, c) = stream.state();
    let x = Tensor::new(&[100, 1, 2], (0..200).map(|k| (k % 7) as f32 / 7.0).collect()).unwrap();
    let mut output = vec![0.0; 500];
    stream.push(x.data(), &mut output).unwrap();
    let options =
        Options { state: Some(State::from_tensors(&h, c.as_ref())), ..Options::default() };
    let offline = layer.forward_with(&x, options).unwrap();
    assert_eq!(output, offline.output.data());
}
