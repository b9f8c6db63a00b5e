//! Small calls of everything, for Miri to watch: `cargo xtask trust miri`. Compared with the reference here too.

mod common;

use common::sample::Sample;
use tidegate::{
    Config, Level, Mode, Options, Saved, View, Workspace, pack_padded_sequence, set_num_threads,
};

fn samples(mut check: impl FnMut(Sample<f32>)) {
    for (k, mode) in Mode::ALL.into_iter().enumerate() {
        for (bidirectional, batch) in [(true, 1), (false, 3)] {
            let config =
                Config { num_layers: 2, bidirectional, dropout: 0.2, ..Config::new(mode, 2, 9) };
            check(Sample::with(config, 3, batch, k as u64));
        }
    }
    let config = Config { proj_size: 2, ..Config::new(Mode::Lstm, 9, 3) };
    check(Sample::with(config, 2, 2, 9));
}

#[test]
fn calls_there_and_back() {
    set_num_threads(1);
    samples(|mut sample| {
        sample.layer = sample.layer.at_level(scalar());
        sample.compare(4e-6);
        let want = sample.run(&sample.layer);
        let mut saved = Saved::with_checkpoints(1);
        assert!(sample.run_with(&sample.layer, &mut saved) == want, "{}", sample.name);
    });
    set_num_threads(0);
}

#[test]
fn packed_sequences_and_streams() {
    set_num_threads(1);
    samples(|sample| {
        let layer = sample.layer.at_level(scalar());
        let lengths: Vec<usize> = (0..sample.batch).map(|b| 1 + b % sample.steps).collect();
        let packed = pack_padded_sequence(&sample.x, &lengths, false, false).unwrap();
        layer.forward_packed(&packed, Default::default()).unwrap();
        let Ok(mut stream) = layer.stream(sample.batch) else { return };
        let step = sample.x.data().len() / sample.steps;
        let mut output =
            vec![0.0; (sample.steps - 1) * sample.batch * layer.config().output_size()];
        stream.step(&sample.x.data()[..step]).unwrap();
        stream.push(&sample.x.data()[step..], &mut output).unwrap();
    });
    set_num_threads(0);
}

#[test]
fn parameters_that_are_not_packed() {
    set_num_threads(1);
    samples(|mut sample| {
        sample.layer = sample.layer.at_level(scalar());
        let got = sample.functional(sample.layer.level(), &mut Workspace::new()).unwrap();
        assert!(got == sample.infer(), "{}", sample.name);
    });
    set_num_threads(0);
}

/// Threads share out the rows, and the units and the layers of one row: under Miri, of calls as small as these.
#[test]
fn several_threads() {
    tidegate::wake_from(0); // short calls are to be shared out
    for (num_layers, hidden_size, steps, batch, threads) in
        [(1, 20, 2, 3, 2), (1, 20, 3, 1, 2), (2, 4, 13, 1, 2), (4, 3, 13, 1, 4)]
    {
        set_num_threads(threads);
        let mode = if num_layers == 1 { Mode::Lstm } else { Mode::Gru };
        let config = Config { num_layers, ..Config::new(mode, 2, hidden_size) };
        let mut sample = Sample::<f32>::with(config, steps, batch, 3);
        // Of one row a cut and less than all steps, or nothing.
        let cut = hidden_size == 20 && batch == 1;
        sample.lengths = cut.then(|| vec![steps - 1]);
        sample.resets = cut.then(|| (0..steps).map(|t| t == 1).collect());
        sample.layer = sample.layer.at_level(scalar());
        let want = sample.run(&sample.layer);
        set_num_threads(1);
        assert!(sample.run(&sample.layer) == want, "{}", sample.name);
        // Without gradients a row alone takes a shorter way.
        let infer =
            || sample.layer.forward_with(View::from(&sample.x), Options::default()).unwrap();
        let want = infer();
        set_num_threads(threads);
        assert!(infer() == want, "{}", sample.name);
        let got = sample.functional(sample.layer.level(), &mut Workspace::new()).unwrap();
        set_num_threads(1);
        assert!(got == sample.infer(), "{}", sample.name);
    }
    set_num_threads(0);
}

/// The last of the levels: Miri runs no vector instructions.
fn scalar() -> Level {
    Level::available().pop().expect("never empty")
}
