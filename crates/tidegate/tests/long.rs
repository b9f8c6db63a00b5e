//! Sequences longer than the chunks in which the products of the input are computed ahead (`CHUNK_BYTES`).

mod common;

use common::sample::spec;
use tidegate::{Config, Generator, Mode, Options, RnnBase, View};
use tidegate_reference as reference;
use tidegate_testing::close::{Tolerance, assert_close};
use tidegate_testing::random::Random;

/// At least three chunks of any mode, in f64.
const STEPS: usize = 1900;

/// Sums of up to 80 products of size about one. Initial weights make every step forget, so errors do not grow with
/// the steps. Measured: 7e-16 at most.
const TOLERANCE: Tolerance = Tolerance::new(1e-14, 1e-14);

fn check(mode: Mode, batch: usize) {
    let config = Config { num_layers: 2, bidirectional: true, ..Config::new(mode, 5, 40) };
    let layer = RnnBase::<f64>::with_generator(config, &mut Generator::manual_seed(3)).unwrap();
    let x: Vec<f64> = Random::new(4).vec(STEPS * batch * 5, -1.0, 1.0);
    let view = View::new(&x, &[STEPS, batch, 5]).unwrap();
    let got = layer.forward_with(view, Options::default()).unwrap();

    let dict = layer.state_dict();
    let parameters = dict.iter().map(|(k, v)| (k.to_string(), v.data().to_vec())).collect();
    let call = reference::Call { steps: STEPS, batch, x: &x, ..reference::Call::default() };
    let want = reference::forward(&spec(&config), &parameters, &call);
    let name = format!("{config}, B {batch}");
    let shape = got.output.shape();
    assert_close(&name, "output", shape, got.output.data(), &want.output, TOLERANCE);
    assert_close(&name, "h_n", got.h_n.shape(), got.h_n.data(), &want.h_n, TOLERANCE);
}

#[test]
fn sequences_of_many_chunks_agree_with_the_reference() {
    for mode in Mode::ALL {
        check(mode, 1);
        check(mode, 3);
    }
}
