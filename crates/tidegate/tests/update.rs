//! New parameters replace the old ones in every copy that calls have made of them.

mod common;

use common::Number;
use common::sample::Sample;
use tidegate::{Config, Mode, Options, RnnBase, set_num_threads};

/// Calls of several rows and of one, there and back, with the parameters of one layer and then with another's.
fn replaced<E: Number>(config: Config) {
    let sample = |batch, seed| {
        let mut sample = Sample::<E>::with(config, 6, batch, seed);
        sample.lengths = None;
        sample
    };
    let (mut layer, samples) = (sample(1, 1).layer, [sample(1, 2), sample(3, 2)]);
    for sample in &samples {
        sample.run(&layer);
        layer.forward_with(&sample.x, Options::default()).unwrap();
    }
    let new = &samples[0].layer;
    layer.update_parameters(|own| own.clone_from_slice(new.parameters()));
    for sample in &samples {
        assert!(sample.run(&layer) == sample.run(new), "{}", sample.name);
        let infer = |layer: &RnnBase<E>| layer.forward_with(&sample.x, Options::default()).unwrap();
        assert_eq!(infer(&layer), infer(new));
    }
}

/// So many that two threads pack them.
#[test]
fn new_parameters_replace_the_old_ones_everywhere() {
    tidegate::wake_from(0); // short calls are to be shared out
    set_num_threads(2);
    for mode in Mode::ALL {
        let config = Config { num_layers: 2, bidirectional: true, ..Config::new(mode, 70, 150) };
        replaced::<f32>(config);
        replaced::<f64>(config);
    }
    let projected = Config { num_layers: 2, proj_size: 90, ..Config::new(Mode::Lstm, 70, 150) };
    replaced::<f32>(projected);
    replaced::<f64>(projected);
    set_num_threads(0);
}
