//! Memory that is not there: each allocation of a load and of a call fails in turn, and each time there is an error.
//!
//! Allocations of fewer than [`SMALL`] bytes do not fail: names, shapes and lists of threads, of which Rust's library
//! makes no errors.

mod common;

use common::sample::Sample;
use tidegate::{
    Config, Error, Generator, Level, Mode, Options, OutputMut, RnnBase, Saved, StateDict, Tensor,
    View, Workspace, pack_padded_sequence, pad_packed_sequence, set_num_threads, unpad_sequence,
};
use tidegate_testing::failing::{self, Failing};

/// Bytes below which an allocation does not fail.
const SMALL: usize = 2048;

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Lets each large allocation of `work` fail in turn, which must then return [`Error::OutOfMemory`]; how many there
/// were.
fn each_fails<T>(name: &str, work: impl FnMut() -> Result<T, Error>) -> usize {
    failing::each(
        name,
        SMALL,
        work,
        |error| matches!(error, Error::OutOfMemory { bytes } if *bytes >= SMALL),
    )
}

/// A call of enough rows and steps that every list of them is large.
fn sample(config: Config, steps: usize, batch: usize) -> Sample<f32> {
    let mut sample = Sample::<f32>::with(config, steps, batch, 5);
    sample.lengths = (batch > 1).then(|| (0..batch).map(|b| steps - b % 3).collect());
    sample.resets = Some((0..steps * batch).map(|k| k % 7 == 0).collect());
    (sample.resets_to, sample.trains) = (true, true);
    sample
}

// One test, as there is one allocator for all.
#[test]
fn every_allocation_that_fails_is_an_error() {
    tidegate::wake_from(0); // short calls are to be shared out
    let configs =
        Mode::ALL.map(|mode| Config { num_layers: 2, dropout: 0.2, ..Config::new(mode, 17, 33) });
    let projected = Config { proj_size: 20, bidirectional: true, ..configs[0] };
    for config in configs.into_iter().chain([projected]) {
        for (threads, steps, batch) in [(1, 300, 1), (1, 6, 300), (2, 6, 300), (2, 300, 2)] {
            set_num_threads(threads);
            let sample = sample(config, steps, batch);
            let want = sample.run(&sample.layer);
            let name = &format!("{}, {threads} threads", sample.name);
            let dict = sample.layer.state_dict();
            let load = || RnnBase::from_state_dict(config, &dict, "");
            let packed = || {
                let layer = load()?;
                layer.prepack().map(|()| layer)
            };
            assert!(each_fails(&format!("{name}: load"), packed) > 4);

            let mut generator = Generator::manual_seed(sample.seed);
            let forward = || {
                // A layer that has not packed its weights yet.
                let layer = load()?;
                layer.forward_with(&sample.x, sample.options(&mut generator))
            };
            assert!(each_fails(&format!("{name}: forward"), forward) > 8);

            let functional = || sample.functional(Level::best(), &mut Workspace::new());
            assert!(each_fails(&format!("{name}: functional"), functional) > 4);

            let saved = &mut Saved::new();
            let train = || {
                generator = Generator::manual_seed(sample.seed);
                load()?.forward_train(&sample.x, sample.options(&mut generator), saved)
            };
            assert!(each_fails(&format!("{name}: forward_train"), train) > 8);

            let back = || load()?.backward(&sample.x, sample.upstream(), saved);
            assert!(each_fails(&format!("{name}: backward"), back) > 8);
            assert!(sample.run_with(&sample.layer, saved) == want, "{name}");
            set_num_threads(0);
        }
    }
    streams();
    sequences();
    layers_at_once();
    half_a_forward_call_is_none();
}

fn streams() {
    let config = Config { num_layers: 2, ..Config::new(Mode::Gru, 64, 320) };
    let sample = Sample::<f32>::with(config, 40, 3, 1);
    let dict: StateDict<f32> = sample.layer.state_dict();
    let mut output = vec![0.0; 40 * 3 * 320];
    let mut fresh = vec![0.0; 40 * 3 * 320];
    sample.layer.stream(3).unwrap().push(sample.x.data(), &mut fresh).unwrap();
    let layer = RnnBase::from_state_dict(config, &dict, "").unwrap();
    assert!(each_fails("stream", || layer.stream(3)) > 3);
    for threads in [1, 2] {
        let mut stream = layer.stream(3).unwrap();
        stream.set_num_threads(threads);
        assert!(each_fails("push", || stream.push(sample.x.data(), &mut output)) > 0);
        // The calls that failed have left the state alone.
        assert_eq!(output, fresh);
    }
}

/// Packed, padded and cut apart again.
fn sequences() {
    let x = Tensor::new(&[40, 3, 64], vec![0.5f32; 40 * 3 * 64]).unwrap();
    let lengths = [40, 30, 20];
    assert!(each_fails("pack", || pack_padded_sequence(&x, &lengths, false, true)) > 0);
    let packed = pack_padded_sequence(&x, &lengths, false, true).unwrap();
    assert!(each_fails("pad", || pad_packed_sequence(&packed, false, 0.0, None)) > 0);
    assert!(each_fails("unpad", || unpad_sequence(&x, &lengths, false)) == 3);
}

/// Each layer on a thread of its own, for which the one above waits.
fn layers_at_once() {
    set_num_threads(2);
    let config = Config { num_layers: 2, ..Config::new(Mode::Gru, 64, 64) };
    let sample = Sample::<f32>::with(config, 300, 1, 1);
    let dict: StateDict<f32> = sample.layer.state_dict();
    let want = sample.layer.forward_with(View::from(&sample.x), Options::default()).unwrap();
    let forward = || {
        let layer = RnnBase::from_state_dict(config, &dict, "")?;
        layer.forward_with(View::from(&sample.x), Options::default())
    };
    assert!(each_fails("layers at once", forward) > 8);
    assert!(forward().unwrap() == want);
    set_num_threads(0);
}

/// What a call that failed has kept is not taken for that of one that did not.
fn half_a_forward_call_is_none() {
    let sample = sample(Config { num_layers: 2, ..Config::new(Mode::Lstm, 8, 32) }, 20, 4);
    let mut saved = Saved::new();
    let mut generator = Generator::manual_seed(1);
    let mut output = sample.layer.empty_output(&sample.x).unwrap();
    let mut workspace = Workspace::new();
    failing::after(1, SMALL);
    let result = sample.layer.forward_train_into(
        &sample.x,
        sample.options(&mut generator),
        &mut workspace,
        &mut saved,
        OutputMut {
            output: output.output.data_mut(),
            h_n: output.h_n.data_mut(),
            c_n: output.c_n.as_mut().map_or(&mut [], Tensor::data_mut),
        },
    );
    assert!(failing::has_failed());
    assert!(matches!(result, Err(Error::OutOfMemory { .. })), "{result:?}");
    let back = sample.layer.backward(&sample.x, sample.upstream(), &saved);
    assert!(matches!(back, Err(Error::ForeignSaved { .. })), "{:?}", back.err());
}
