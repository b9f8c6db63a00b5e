//! The memory of weights in training is that of forward and of the way back by turns, and of calls of any form.

mod common;

use common::Number;
use common::sample::Sample;
use tidegate::{Config, Level, Mode, Saved, Workspace, set_num_threads};

/// Calls of all forms in one workspace, of parameters that are the caller's, with the gradient of the input and without,
/// with checkpoints and without.
fn in_one_workspace<E: Number>(level: Level) {
    let mut workspace = Workspace::new();
    for seed in 0..300 {
        let sample = Sample::<E>::new(seed);
        let (result, want) = sample.run(&sample.layer);
        for call in 0..3 {
            let wanted = (seed / 2 + call) % 2 == 0;
            let mut saved = match (seed + call) % 3 {
                0 => Saved::with_checkpoints(2),
                _ => Saved::new(),
            };
            let (name, memory) = (&sample.name, (&mut workspace, &mut saved));
            let (got_result, got) = sample.functional_run(level, memory, wanted);
            assert!(got_result == result, "{name}, {level:?}");
            let want = &want[usize::from(!wanted)..];
            for ((name, got), (of, want)) in got.iter().zip(want) {
                assert!(name == of && got == want, "{}, {level:?}, {name}", sample.name);
            }
            assert_eq!(got.len(), want.len());
        }
    }
}

#[test]
fn calls_of_all_forms_share_a_workspace() {
    for level in Level::available() {
        in_one_workspace::<f32>(level);
        in_one_workspace::<f64>(level);
    }
}

/// More than 16 MB, which training does not pack before a call; forward alone does.
#[test]
fn input_weights_of_any_size_give_the_same_bits() {
    tidegate::wake_from(0); // short calls are to be shared out
    for mode in Mode::ALL {
        let config = Config::new(mode, 280_000 / mode.gates(), 16);
        let mut sample = Sample::<f32>::with(config, 3, 5, 8);
        sample.lengths = None;
        let (inferred, mut workspace) = (sample.infer(), Workspace::new());
        let (_, want) = sample.run(&sample.layer);
        for threads in [1, 2] {
            set_num_threads(threads);
            for mut saved in [Saved::new(), Saved::with_checkpoints(1)] {
                let memory = (&mut workspace, &mut saved);
                let (result, got) = sample.functional_run(Level::best(), memory, true);
                assert!(result == inferred && got == want, "{}", sample.name);
            }
        }
    }
    set_num_threads(0);
}
