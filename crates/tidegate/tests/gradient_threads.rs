//! Gradients have the same bits with any number of threads, however the work is shared out among them.

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::Number;
use common::sample::Sample;
use tidegate::{Config, Mode, Saved, set_num_threads};

/// One test at a time, since the number of threads is the process's.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn any_number_of_threads<E: Number>() {
    for (seed, mode) in Mode::ALL.into_iter().enumerate() {
        for (bidirectional, steps, batch) in [(false, 40, 9), (true, 40, 1), (true, 30, 7)] {
            let config =
                Config { num_layers: 2, bidirectional, dropout: 0.2, ..Config::new(mode, 65, 130) };
            let sample = Sample::<E>::with(config, steps, batch, seed as u64);
            set_num_threads(1);
            let want = sample.run(&sample.layer);
            for threads in [2, 3, 8] {
                set_num_threads(threads);
                let got = sample.run(&sample.layer);
                assert!(got == want, "{} with {threads} threads", sample.name);
            }
        }
    }
    set_num_threads(0);
}

/// Sequences too few for the threads or of different lengths, of so many units that these are shared out both ways; several
/// passes; dropout between layers.
fn shared_out_units<E: Number>(hidden: usize) {
    for (seed, mode) in Mode::ALL.into_iter().enumerate() {
        for (bidirectional, layers, steps, lengths) in [
            (false, 1, 160, None),
            (false, 2, 70, Some(vec![70, 1, 69, 0, 40])),
            (true, 1, 70, Some(vec![3, 70, 50])),
        ] {
            let batch = lengths.as_ref().map_or(1, Vec::len);
            let (num_layers, dropout) = (layers, 0.2);
            let config =
                Config { num_layers, bidirectional, dropout, ..Config::new(mode, 9, hidden) };
            let mut sample = Sample::<E>::with(config, steps, batch, seed as u64);
            if layers == 2 {
                sample.resets = Some((0..steps * batch).map(|k| k % 7 == 3).collect());
            }
            sample.lengths = lengths;
            let run = |threads| {
                set_num_threads(threads);
                let again = sample.run_with(&sample.layer, &mut Saved::with_checkpoints(11));
                (sample.run(&sample.layer), again)
            };
            let want = run(1);
            for threads in [2, 3, 8] {
                assert!(run(threads) == want, "{} with {threads} threads", sample.name);
            }
        }
    }
    set_num_threads(0);
}

#[test]
fn any_number_of_threads_gives_the_same_gradients() {
    tidegate::wake_from(0); // short calls are to be shared out
    let _turn = turn();
    any_number_of_threads::<f32>();
    any_number_of_threads::<f64>();
    shared_out_units::<f32>(393);
    shared_out_units::<f64>(201);
}

/// The number of threads may be set at any moment.
#[test]
fn the_number_of_threads_may_change_during_a_call() {
    tidegate::wake_from(0); // short calls are to be shared out
    let _turn = turn();
    let config = Config::new(Mode::Lstm, 16, 64);
    let mut sample = Sample::<f32>::with(config, 60, 64, 1);
    (sample.lengths, sample.resets, sample.trains) = (None, None, false);
    let want = sample.run(&sample.layer);
    let ends = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for threads in (1..9).cycle() {
                if ends.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                set_num_threads(threads);
                std::thread::yield_now();
            }
        });
        let same = (0..40).all(|_| {
            sample.run(&sample.layer) == want
                && sample.run_with(&sample.layer, &mut Saved::with_checkpoints(9)) == want
        });
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(same);
    });
    set_num_threads(0);
}
