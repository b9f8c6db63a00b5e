//! Gradients of random calls against the reference's, and against themselves by other ways.

mod common;

use common::Number;
use common::sample::Sample;
use tidegate::{
    Config, Error, Generator, GradientsMut, Level, Mode, Options, Resets, RnnBase, Saved, State,
    Tensor, Upstream, View, Workspace, pack_padded_sequence,
};
use tidegate_testing::close::assert_same_bits;
use tidegate_testing::random::Random;

/// Of the larger of 1 and the largest entry of the tensor. Measured: 9.5e-7 and 3.5e-15 at most.
fn tolerance<E: Number>() -> f64 {
    if size_of::<E>() == 4 { 2e-6 } else { 1e-14 }
}

fn against_reference<E: Number>(seeds: core::ops::Range<u64>) {
    let off = seeds.map(|seed| Sample::<E>::new(seed).compare(tolerance::<E>()));
    let worst = off.fold(0.0, f64::max);
    println!("{}: off by at most {worst:e} of the largest entry", E::NAME);
}

#[test]
fn f32_gradients_agree_with_the_reference() {
    against_reference::<f32>(0..1000);
}

#[test]
fn f64_gradients_agree_with_the_reference() {
    against_reference::<f64>(1000..2000);
}

fn assert_same<E: Number>(sample: &Sample<E>, how: &str, layer: &RnnBase<E>) {
    let (want_output, want) = sample.run(&sample.layer);
    let (output, got) = sample.run(layer);
    assert_eq!(output, want_output, "{}, {how}", sample.name);
    for ((name, got), (_, want)) in got.iter().zip(&want) {
        let case = format!("{}, {how}", sample.name);
        assert_same_bits(&case, name, got.shape(), got.data(), want.data());
    }
}

fn at_every_level<E: Number>() {
    let levels = Level::available();
    for seed in 0..200 {
        let sample = Sample::<E>::new(seed);
        for level in &levels {
            assert_same(&sample, level.name(), &sample.layer.at_level(*level));
        }
    }
}

#[test]
fn every_level_gives_the_same_gradients() {
    at_every_level::<f32>();
    at_every_level::<f64>();
}

#[test]
fn training_and_inference_give_the_same_output() {
    for seed in 0..300 {
        let sample = Sample::<f32>::new(seed);
        let mut generator = Generator::manual_seed(seed);
        let want = sample.layer.forward_with(&sample.x, sample.options(&mut generator)).unwrap();
        assert_eq!(sample.run(&sample.layer).0, want, "{}", sample.name);
    }
}

#[test]
fn a_part_of_the_gradients_is_that_part_of_all() {
    for seed in 0..200 {
        let sample = Sample::<f32>::new(seed);
        let mut random = Random::new(seed);
        let (_, all) = sample.run(&sample.layer);
        let mut some: Vec<Option<Vec<f32>>> = all
            .iter()
            .map(|(_, gradient)| random.flip().then(|| vec![0.5; gradient.data().len()]))
            .collect();
        let accumulate = random.flip();
        let mut saved = Saved::new();
        let mut generator = Generator::manual_seed(sample.seed);
        let options = sample.options(&mut generator);
        sample.layer.forward_train(&sample.x, options, &mut saved).unwrap();
        let mut into = GradientsMut { accumulate, ..GradientsMut::default() };
        for ((name, _), to) in all.iter().zip(&mut some) {
            let to = to.as_deref_mut();
            match &name[..] {
                "x" => into.input = to,
                "h_0" => into.h_0 = to,
                "c_0" => into.c_0 = to,
                "reset_h" => into.reset_h = to,
                "reset_c" => into.reset_c = to,
                _ => into.parameters.push(to),
            }
        }
        let workspace = &mut Workspace::new();
        let layer = &sample.layer;
        layer.backward_into(&sample.x, sample.upstream(), &saved, workspace, into).unwrap();
        for ((name, want), got) in all.iter().zip(some) {
            let Some(got) = got else { continue };
            let largest = want.data().iter().fold(1.0, |most: f32, d| most.max(d.abs()));
            for (got, want) in got.iter().zip(want.data()) {
                // Added to, a gradient rounds once more for each of the parts it is made of.
                let off = if accumulate { (got - 0.5 - want).abs() } else { got - want };
                let allowed = if accumulate { 1e-6 * largest } else { 0.0 };
                assert!(off.abs() <= allowed, "{}: {name} {got} {want}", sample.name);
            }
        }
    }
}

/// The same layer over an input that lies and is named otherwise.
#[test]
fn layouts_change_no_bit_of_the_gradients() {
    for seed in 0..100 {
        let sample = Sample::<f32>::new(seed);
        let (_, want) = sample.run(&sample.layer);
        let config = Config { batch_first: true, ..*sample.config() };
        let layer = RnnBase::from_state_dict(config, &sample.layer.state_dict(), "").unwrap();
        let swap = |t: &Tensor<f32>| {
            let swapped = t.to_ndarray().permuted_axes(vec![1, 0, 2]);
            let data: Vec<f32> = swapped.iter().copied().collect();
            Tensor::new(swapped.shape(), data).unwrap()
        };
        let x = swap(&sample.x);
        let d_output = sample.d_output.as_ref().map(swap);
        let mut generator = Generator::manual_seed(seed);
        let mut options = sample.options(&mut generator);
        let (steps, batch) = (sample.steps, sample.batch);
        let before: Option<Vec<bool>> = sample.resets.as_ref().map(|before| {
            (0..steps * batch).map(|k| before[k % steps * batch + k / steps]).collect()
        });
        options.resets = options
            .resets
            .zip(before.as_deref())
            .map(|(resets, before)| Resets { before, ..resets });
        let mut saved = Saved::new();
        layer.forward_train(&x, options, &mut saved).unwrap();
        let upstream = Upstream { output: common::view(&d_output), ..sample.upstream() };
        let got = layer.backward(&x, upstream, &saved).unwrap();
        assert_eq!(swap(&got.input), want[0].1, "{}", sample.name);
        assert_eq!(got.h_0, want[1].1, "{}", sample.name);
        let parameters = &want[want.len() - got.parameters.len()..];
        for (got, (name, want)) in got.parameters.iter().zip(parameters) {
            assert_eq!(got, want, "{}: {name}", sample.name);
        }
    }
}

/// Back through a sequence in chunks, each from the final state of the one before it.
#[test]
fn chunks_give_the_gradients_of_the_whole() {
    for seed in 0..100 {
        let mut sample = Sample::<f64>::new(seed);
        let config = Config { bidirectional: false, dropout: 0.0, ..*sample.config() };
        sample = Sample::with(config, sample.steps.max(2), sample.batch, seed);
        (sample.lengths, sample.resets, sample.trains) = (None, None, false);
        let (_, want) = sample.run(&sample.layer);
        let half = sample.steps / 2;
        let part = |t: &Tensor<f64>, steps: core::ops::Range<usize>| {
            let row = t.data().len() / sample.steps;
            let shape = [&[steps.len()], &t.shape()[1..]].concat();
            Tensor::new(&shape, t.data()[steps.start * row..steps.end * row].to_vec()).unwrap()
        };
        let chunks = [0..half, half..sample.steps];
        let xs = chunks.clone().map(|steps| part(&sample.x, steps));
        let d_outputs = chunks.map(|steps| sample.d_output.as_ref().map(|d| part(d, steps)));
        let mut saved = [Saved::new(), Saved::new()];
        let (layer, [first, second]) = (&sample.layer, &mut saved);
        let state = Some(State::from_tensors(&sample.h_0, sample.c_0.as_ref()));
        let options = Options { state, ..Options::default() };
        let middle = layer.forward_train(&xs[0], options, first).unwrap();
        let state = Some(State::from_tensors(&middle.h_n, middle.c_n.as_ref()));
        let options = Options { state, ..Options::default() };
        layer.forward_train(&xs[1], options, second).unwrap();

        let upstream = Upstream { output: common::view(&d_outputs[1]), ..sample.upstream() };
        let late = layer.backward(&xs[1], upstream, second).unwrap();
        let upstream = Upstream {
            output: common::view(&d_outputs[0]),
            h_n: Some(View::from(&late.h_0)),
            c_n: common::view(&late.c_0),
        };
        let early = layer.backward(&xs[0], upstream, first).unwrap();
        let joined = [early.input.data(), late.input.data()].concat();
        let shape = sample.x.shape();
        assert_same_bits(&sample.name, "x", shape, &joined, want[0].1.data());
        assert_same_bits(
            &sample.name,
            "h_0",
            early.h_0.shape(),
            early.h_0.data(),
            want[1].1.data(),
        );
        let parameters = &want[want.len() - early.parameters.len()..];
        for (k, (name, want)) in parameters.iter().enumerate() {
            let parts = early.parameters[k].data().iter().zip(late.parameters[k].data());
            for ((early, late), want) in parts.zip(want.data()) {
                let off = (early + late - want).abs();
                assert!(off <= 1e-13 * want.abs().max(1.0), "{}: {name}", sample.name);
            }
        }
    }
}

/// Computing steps again gives the same bits, and takes less memory.
#[test]
fn checkpoints_change_no_bit() {
    for seed in 0..300 {
        let sample = Sample::<f32>::new(seed);
        let want = sample.run(&sample.layer);
        let every = Random::new(seed).between(1, 9);
        let mut saved = Saved::with_checkpoints(every);
        let got = sample.run_with(&sample.layer, &mut saved);
        assert!(got == want, "{}, checkpoints every {every} steps", sample.name);
        // Memory that has been used for another call.
        let other = Sample::<f32>::new(seed + 1);
        let got = other.run_with(&other.layer, &mut saved);
        assert!(got == other.run(&other.layer), "{}, after {}", other.name, sample.name);
    }
    // 400 steps of 4 sequences; checkpoints every 32 steps, of 128 rows.
    let config = Config { num_layers: 2, ..Config::new(Mode::Lstm, 8, 32) };
    let mut sample = Sample::<f32>::with(config, 400, 4, 1);
    (sample.lengths, sample.resets, sample.trains) = (None, None, false);
    let (mut all, mut some) = (Saved::new(), Saved::with_checkpoints(20));
    let want = sample.run_with(&sample.layer, &mut all);
    assert!(sample.run_with(&sample.layer, &mut some) == want);
    let (rows, between) = (400 * 4, 400 * 4 * 32);
    assert_eq!(all.bytes(), 4 * (2 * rows * 6 * 32 + between));
    assert_eq!(some.bytes(), 4 * (2 * 400usize.div_ceil(32) * 4 * 2 * 32 + between));
}

/// A packed batch is the padded one without its padding: the same bits, each packed array in its layout.
#[test]
fn packed_sequences_have_the_gradients_of_padded_ones() {
    let mut cuts = 0;
    for seed in 0..300 {
        let mut sample = Sample::<f32>::new(seed);
        let lengths = sample.lengths.get_or_insert_with(|| vec![sample.steps; sample.batch]);
        lengths.iter_mut().for_each(|length| *length = (*length).max(1));
        let lengths = lengths.clone();
        let (want, mut want_gradients) = sample.run(&sample.layer);

        let pack =
            |padded: &Tensor<f32>| pack_padded_sequence(padded, &lengths, false, false).unwrap();
        let x = pack(&sample.x);
        let before = sample.resets.as_ref().map(|before| {
            let mask = before.iter().map(|&cut| f32::from(u8::from(cut))).collect();
            let mask = Tensor::new(&[sample.steps, sample.batch, 1], mask).unwrap();
            pack(&mask).data().data().iter().map(|&cut| cut > 0.0).collect::<Vec<bool>>()
        });
        cuts += before.iter().flatten().filter(|cut| **cut).count();
        let mut generator = Generator::manual_seed(seed);
        let options = sample.options(&mut generator);
        let resets = options.resets.zip(before.as_ref());
        let resets = resets.map(|(resets, before)| Resets { before, ..resets });
        let options = Options { lengths: None, resets, ..options };
        let mut saved = Saved::new();
        let (output, h_n, c_n) =
            sample.layer.forward_packed_train(&x, options, &mut saved).unwrap();
        assert!((&h_n, &c_n) == (&want.h_n, &want.c_n), "{}", sample.name);
        assert!(output == pack(&want.output), "{}", sample.name);

        let d_output = sample.d_output.as_ref().map(&pack);
        let d_output = d_output.as_ref().map(|packed| packed.data().into());
        let upstream = Upstream { output: d_output, ..sample.upstream() };
        let gradients = sample.layer.backward(x.data(), upstream, &saved).unwrap();
        assert!(gradients.input == *pack(&want_gradients.remove(0).1).data(), "{}", sample.name);
        let states =
            [Some(gradients.h_0), Some(gradients.reset_h), gradients.c_0, gradients.reset_c];
        let got = states.into_iter().flatten().chain(gradients.parameters);
        assert!(got.eq(want_gradients.into_iter().map(|(_, want)| want)), "{}", sample.name);
    }
    assert!(cuts > 1000);
}

/// The states of every step are those that calls of as many steps end with, and the gates give them.
#[test]
fn states_of_every_step_are_the_final_ones_of_shorter_calls() {
    for seed in 0..100 {
        let config = Config { bidirectional: false, ..*Sample::<f32>::new(seed).config() };
        let mut sample = Sample::<f32>::with(config, 7, 3, seed);
        (sample.resets, sample.trains) = (None, false);
        let lengths = sample.lengths.clone().unwrap_or_else(|| vec![sample.steps; sample.batch]);
        let mut saved = Saved::new();
        sample.run_with(&sample.layer, &mut saved);
        for layer in 0..config.num_layers {
            let hidden = config.hidden_size;
            let gates = saved.gates(layer).unwrap();
            let count = config.mode.gates();
            assert_eq!(gates.shape(), [sample.steps, sample.batch, count * hidden]);
            if !config.mode.has_cell_state() {
                assert!(matches!(saved.cell_states(layer), Err(Error::CellState { .. })));
                continue;
            }
            let cells = saved.cell_states(layer).unwrap();
            for t in 0..sample.steps {
                let shorter: Vec<usize> = lengths.iter().map(|&length| length.min(t + 1)).collect();
                let mut generator = Generator::manual_seed(seed);
                let options = Options { lengths: Some(&shorter), ..sample.options(&mut generator) };
                let c_n = sample.layer.forward_with(&sample.x, options).unwrap().c_n.unwrap();
                for (b, &length) in lengths.iter().enumerate() {
                    let got = &cells.data()[(t * sample.batch + b) * hidden..][..hidden];
                    let want = &c_n.data()[(layer * sample.batch + b) * hidden..][..hidden];
                    let zeros = vec![0.0; hidden];
                    let want = if t < length { want } else { &zeros };
                    assert_same_bits(&sample.name, "cell states", &[hidden], got, want);
                }
            }
        }
    }
    // An LSTM from zeros: c = i g in the first step, in which f has nothing to keep.
    let mut sample = Sample::<f64>::with(Config::new(Mode::Lstm, 3, 5), 1, 1, 3);
    (sample.lengths, sample.resets) = (None, None);
    sample.c_0 = Some(Tensor::new(&[1, 1, 5], vec![0.0; 5]).unwrap());
    let mut saved = Saved::new();
    sample.run_with(&sample.layer, &mut saved);
    let (gates, cells) = (saved.gates(0).unwrap(), saved.cell_states(0).unwrap());
    for unit in 0..5 {
        assert_eq!(cells.data()[unit], gates.data()[unit] * gates.data()[10 + unit]);
    }
    let message = |saved: &Saved<f64>| saved.gates(0).unwrap_err().to_string();
    assert_eq!(message(&Saved::new()), "no gates of every step: no forward_train call was made");
    let mut some = Saved::with_checkpoints(2);
    sample.run_with(&sample.layer, &mut some);
    let want = "no gates of every step: the call kept checkpoints instead of every step";
    assert_eq!(message(&some), want);
}
