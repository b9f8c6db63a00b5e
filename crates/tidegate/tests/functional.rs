//! Calls with parameters of the caller give the bits of a layer made with them.

mod common;

use common::Number;
use common::sample::Sample;
use tidegate::{Config, Error, Functional, Level, Mode, RnnBase, Workspace, set_num_threads};

/// The call with the caller's parameters, and by a layer.
fn check<E: Number>(sample: &Sample<E>, level: Level, workspace: &mut Workspace<E>) {
    let got = sample.functional(level, workspace).unwrap();
    assert!(got == sample.infer(), "{}, {level:?}", sample.name);
}

/// With lengths, cuts and dropout or without.
#[test]
fn every_configuration_at_every_level() {
    fn check_all<E: Number>() {
        let mut workspaces: Vec<_> = Level::available().iter().map(|_| Workspace::new()).collect();
        for seed in 0..200 {
            let sample = Sample::<E>::new(seed);
            for (level, workspace) in Level::available().into_iter().zip(&mut workspaces) {
                check(&sample, level, workspace);
            }
        }
    }
    check_all::<f32>();
    check_all::<f64>();
}

/// A sequence of two steps and nothing else.
fn plain(config: Config, batch: usize) -> Sample<f32> {
    let mut sample = Sample::with(config, 2, batch, 4);
    (sample.lengths, sample.resets) = (None, None);
    sample
}

/// Rows alone and several, whole and partial blocks of units, and all lengths of a chain's strip of inputs.
#[test]
fn every_size_of_a_block() {
    for mode in Mode::ALL {
        for hidden in [1, 7, 8, 16, 17, 40, 64] {
            for inputs in [1, 8, 31, 64, 67, 100] {
                for batch in [1, 3] {
                    let sample = plain(Config::new(mode, inputs, hidden), batch);
                    for level in Level::available() {
                        check(&sample, level, &mut Workspace::new());
                    }
                }
            }
        }
    }
}

/// The units of a row, of many rows, directions, and layers.
#[test]
fn threads_share_it_out() {
    tidegate::wake_from(0); // short calls are to be shared out
    let mut workspace = Workspace::new();
    for mode in Mode::ALL {
        let config = Config::new(mode, 200, 1100);
        let small = Config { num_layers: 2, ..Config::new(mode, 64, 64) };
        for (config, steps, batch) in [
            (config, 2, 1),
            (config, 2, 40),
            (Config { bidirectional: true, ..config }, 2, 1),
            (small, 100, 1),
        ] {
            let mut sample = Sample::<f32>::with(config, steps, batch, 4);
            (sample.lengths, sample.resets, sample.trains) = (None, None, false);
            for threads in [1, 2, 3] {
                set_num_threads(threads);
                check(&sample, Level::best(), &mut workspace);
            }
            set_num_threads(0);
        }
    }
}

#[test]
fn parameters_that_do_not_fit_are_refused() {
    let config = Config { bidirectional: true, ..Config::new(Mode::Gru, 2, 3) };
    let layer = RnnBase::<f32>::new(config).unwrap();
    let fitting: Vec<&[f32]> = layer.parameters().iter().map(|own| own.data()).collect();
    let refused = |parameters: &[&[f32]]| Functional::new(config, parameters).map(|_| ());
    assert_eq!(refused(&fitting), Ok(()));
    let name = || "bias_hh_l0".to_owned();
    assert_eq!(refused(&fitting[..3]), Err(Error::MissingParameter { name: name() }));
    let mut short = fitting.clone();
    short[3] = &fitting[3][1..];
    let (expected, got) = (vec![9], vec![8]);
    assert_eq!(refused(&short), Err(Error::ParameterShape { name: name(), expected, got }));
    short[3] = fitting[3];
    short[4] = &fitting[4][1..];
    let (name, expected, got) = ("weight_ih_l0_reverse".to_owned(), vec![9, 2], vec![17]);
    assert_eq!(refused(&short), Err(Error::ParameterShape { name, expected, got }));
    let more = [&fitting[..], &fitting[..1]].concat();
    assert_eq!(refused(&more), Err(Error::ParameterCount { expected: 8, got: 9 }));
    assert!(Functional::<f32>::new(Config::new(Mode::Gru, 2, 0), &[]).is_err());
    let endless = Config { num_layers: usize::MAX / 2, ..config };
    assert!(Functional::<f32>::new(endless, &[]).is_err());
}

/// On several threads, down to the last of any of them.
#[test]
fn a_layer_has_its_own_parameters_and_no_others() {
    tidegate::wake_from(0);
    set_num_threads(2);
    for hidden in [3, 300] {
        let layer = RnnBase::<f32>::new(Config::new(Mode::Gru, 5, hidden)).unwrap();
        let own: Vec<Vec<f32>> = layer.parameters().iter().map(|own| own.data().to_vec()).collect();
        let has = |parameters: &[Vec<f32>]| {
            let parameters: Vec<&[f32]> = parameters.iter().map(|given| &given[..]).collect();
            layer.has_parameters(&parameters)
        };
        assert!(has(&own) && !has(&own[..3]) && !has(&[]));
        for k in 0..own.len() {
            for at in [0, own[k].len() / 2, own[k].len() - 1] {
                let mut other = own.clone();
                other[k][at] = f32::from_bits(other[k][at].to_bits() ^ 1);
                assert!(!has(&other), "{hidden} units, parameter {k}, {at}");
            }
            let mut shorter = own.clone();
            shorter[k].pop();
            assert!(!has(&shorter));
        }
    }
    let mut layer = RnnBase::<f32>::new(Config::new(Mode::RnnRelu, 1, 1)).unwrap();
    layer.update_parameters(|own| own[0].data_mut()[0] = f32::NAN);
    let nan: Vec<&[f32]> = layer.parameters().iter().map(|own| own.data()).collect();
    assert!(layer.has_parameters(&nan));
    let mut zero = layer.clone();
    zero.update_parameters(|own| own[0].data_mut()[0] = 0.0);
    assert!(!zero.has_parameters(&[&[-0.0], nan[1], nan[2], nan[3]]));
    set_num_threads(0);
}
