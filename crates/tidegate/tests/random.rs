//! Random layers and calls against the reference, and at every level.

mod common;

use common::Number;
use common::call::{Call, assert_same, sized, tolerance};
use tidegate::{Config, Generator, Level, Mode, Options, RnnBase, State, View};
use tidegate_testing::random::Random;

fn against_reference<E: Number>(seeds: core::ops::Range<u64>) {
    for seed in seeds {
        let call = Call::<E>::new(seed);
        let got = call.run(&call.layer);
        call.assert_close(&got, &call.reference(None), tolerance::<E>());
    }
}

#[test]
fn f32_layers_agree_with_the_reference() {
    against_reference::<f32>(0..2000);
}

#[test]
fn f64_layers_agree_with_the_reference() {
    against_reference::<f64>(2000..4000);
}

fn at_every_level<E: Number>() {
    let levels = Level::available();
    for seed in 0..300 {
        let call = Call::<E>::new(seed);
        let want = call.run(&call.layer);
        for level in &levels {
            let got = call.run(&call.layer.at_level(*level));
            assert_same(&format!("{} at level {}", call.name, level.name()), &got, &want);
        }
    }
}

#[test]
fn every_level_gives_the_same_bits() {
    at_every_level::<f32>();
    at_every_level::<f64>();
}

fn every_tile<E: Number>() {
    let levels = Level::available();
    for mode in Mode::ALL {
        for (inputs, hidden) in [(1, 63), (100, 64), (7, 65), (68, 128), (129, 129), (3, 257)] {
            for batch in [1, 2, 3, 4, 5, 6, 7, 8, 17, 64] {
                let call = sized::<E>(mode, inputs, hidden, batch);
                let want = call.run(&call.layer);
                call.assert_close(&want, &call.reference(None), tolerance::<E>());
                for level in &levels {
                    let got = call.run(&call.layer.at_level(*level));
                    assert_same(&format!("{} at {}", call.name, level.name()), &got, &want);
                }
            }
        }
    }
}

#[test]
fn every_shape_of_tile_is_right_at_every_level() {
    every_tile::<f32>();
    every_tile::<f64>();
}

/// In CI, a machine that lacks an instruction set must not pass for one that has tested it.
#[test]
fn the_required_levels_are_there() {
    let names: Vec<_> = Level::available().iter().map(|level| level.name()).collect();
    println!("levels: {names:?}");
    let required: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["avx512", "avx2", "scalar"],
        "aarch64" => &["neon", "scalar"],
        _ => &["scalar"],
    };
    if std::env::var_os("CI").is_some() {
        for level in required {
            assert!(
                names.contains(level),
                "CI must test level {level}, this machine has {names:?}"
            );
        }
    } else if required.iter().any(|level| !names.contains(level)) {
        eprintln!("NOT TESTED: of the levels {required:?} this machine has only {names:?}");
    }
}

#[test]
fn padding_holds_the_padding_value_and_empty_rows_keep_their_state() {
    let layer = RnnBase::<f64>::new(Config {
        bidirectional: true,
        num_layers: 2,
        ..Config::new(Mode::Lstm, 3, 5)
    })
    .unwrap();
    let mut random = Random::new(1);
    let (x, h, c) = (
        random.vec(4 * 3 * 3, -1.0, 1.0),
        random.vec(4 * 3 * 5, -1.0, 1.0),
        random.vec::<f64>(4 * 3 * 5, -1.0, 1.0),
    );
    let lengths = [0, 4, 2];
    let options = Options {
        state: Some(State {
            h: View::new(&h, &[4, 3, 5]).unwrap(),
            c: Some(View::new(&c, &[4, 3, 5]).unwrap()),
        }),
        lengths: Some(&lengths),
        padding_value: -7.0,
        ..Options::default()
    };
    let got = layer.forward_with(View::new(&x, &[4, 3, 3]).unwrap(), options).unwrap();
    for (row, values) in got.output.data().chunks_exact(10).enumerate() {
        let (t, b) = (row / 3, row % 3);
        assert_eq!(values.iter().all(|&v| v == -7.0), t >= lengths[b], "step {t}, row {b}");
    }
    for scan in 0..4 {
        let row = scan * 15..scan * 15 + 5; // row 0, which is empty
        assert_eq!(got.h_n.data()[row.clone()], h[row.clone()]);
        assert_eq!(got.c_n.as_ref().unwrap().data()[row.clone()], c[row]);
    }
}

#[test]
fn dropout_is_drawn_in_training_and_only_between_layers() {
    for seed in 0..50 {
        let mut call = Call::<f64>::new(seed);
        call.lengths = None;
        let config = Config { dropout: 0.4, ..*call.config() };
        call.layer = RnnBase::from_state_dict(config, &call.layer.state_dict(), "").unwrap();
        let x = View::new(&call.x, &[call.steps, call.batch, config.input_size]).unwrap();
        let train = |generator: &mut Generator| {
            let state = Some(call.state());
            let options = Options { state, dropout: Some(generator), ..Options::default() };
            call.layer.forward_with(x, options).unwrap()
        };
        let got = train(&mut Generator::manual_seed(seed));
        assert_same(&call.name, &train(&mut Generator::manual_seed(seed)), &got);

        // One number per element between layers, in the order of the layers' outputs.
        let width = config.num_directions() * config.output_size();
        let count = (config.num_layers - 1) * call.steps * call.batch * width;
        let mut generator = Generator::manual_seed(seed);
        let draw = |_| if generator.uniform::<f64>() < 0.4 { 0.0 } else { 1.0 / 0.6 };
        let masks: Vec<f64> = (0..count).map(draw).collect();
        call.assert_close(&got, &call.reference(Some(&masks)), tolerance::<f64>());
        // Evaluation mode: none.
        let evaluated = call.run(&call.layer);
        call.assert_close(&evaluated, &call.reference(None), tolerance::<f64>());
    }
}

/// A layer that keeps its weights as bf16 is the layer with rounded weights.
#[test]
fn weights_kept_as_bf16_give_the_bits_of_rounded_weights() {
    let levels = Level::available();
    let check = |call: &Call<f32>| {
        let half = call.layer.with_bf16_weights();
        let rounded = half.state_dict();
        for (name, tensor) in call.layer.named_parameters() {
            for (&w, &r) in tensor.data().iter().zip(rounded.get(&name).unwrap().data()) {
                let is_weight = tensor.shape().len() == 2;
                assert!(if is_weight { r.to_bits() & 0xffff == 0 } else { r == w }, "{name}");
                assert!((r - w).abs() <= w.abs() / 256.0, "{name}: {w} became {r}");
            }
        }
        let full = RnnBase::from_state_dict(*call.config(), &rounded, "").unwrap();
        let want = call.run(&full);
        for level in &levels {
            let got = call.run(&half.at_level(*level));
            assert_same(&format!("{} at level {}", call.name, level.name()), &got, &want);
        }
        if !half.config().bidirectional {
            let row = &call.x[..call.batch * half.config().input_size];
            let (mut half, mut full) =
                (half.stream(call.batch).unwrap(), full.stream(call.batch).unwrap());
            assert_eq!(half.step(row).unwrap(), full.step(row).unwrap(), "{}", call.name);
        }
    };
    for seed in 0..300 {
        check(&Call::new(seed));
    }
    for mode in Mode::ALL {
        for batch in 1..=8 {
            check(&sized(mode, 17, 70, batch));
        }
    }
}
