//! Runs a layer of any valid configuration forward and backward, compares it with the reference, and with itself
//! at every instruction set and with other numbers of threads.
#![no_main]

#[allow(dead_code, reason = "the target uses a part")]
#[path = "../../crates/tidegate/tests/common/mod.rs"]
mod common;

use arbitrary::Arbitrary;
use common::Number;
use common::sample::Sample;
use libfuzzer_sys::fuzz_target;
use tidegate::{Config, Level, Mode, set_num_threads};

/// What the bytes of a run choose; the numbers of the layer and of the call come from `seed`.
#[derive(Arbitrary, Debug)]
struct Choice {
    mode: u8,
    input_size: u8,
    hidden_size: u8,
    num_layers: u8,
    bias: bool,
    bidirectional: bool,
    proj_size: u8,
    dropout: bool,
    steps: u8,
    batch: u8,
    threads: u8,
    double: bool,
    seed: u32,
}

impl Choice {
    fn config(&self) -> Config {
        let mode = Mode::ALL[self.mode as usize % 4];
        let hidden_size = 1 + self.hidden_size as usize % 70;
        let projects = mode == Mode::Lstm && hidden_size > 1;
        Config {
            num_layers: 1 + self.num_layers as usize % 3,
            bias: self.bias,
            bidirectional: self.bidirectional,
            dropout: if self.dropout { 0.3 } else { 0.0 },
            proj_size: if projects { self.proj_size as usize % hidden_size } else { 0 },
            ..Config::new(mode, 1 + self.input_size as usize % 70, hidden_size)
        }
    }
}

fn run<E: Number>(choice: &Choice, tolerance: f64) {
    let (steps, batch) = (1 + choice.steps as usize % 12, 1 + choice.batch as usize % 20);
    let sample = Sample::<E>::with(choice.config(), steps, batch, choice.seed.into());
    set_num_threads(1);
    sample.compare(tolerance);
    let want = sample.run(&sample.layer);
    for level in Level::available() {
        let got = sample.run(&sample.layer.at_level(level));
        assert!(got == want, "{} at level {}", sample.name, level.name());
    }
    set_num_threads(2 + choice.threads as usize % 7);
    assert!(sample.run(&sample.layer) == want, "{}, {choice:?}", sample.name);
}

fuzz_target!(|choice: Choice| {
    // As in tests/gradients.rs, where inputs are smaller: sums of up to 140 products and 12 steps.
    if choice.double {
        run::<f64>(&choice, 1e-14);
    } else {
        run::<f32>(&choice, 4e-6);
    }
});
