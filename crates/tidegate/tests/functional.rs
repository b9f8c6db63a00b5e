//! Calls with parameters that are not the layer's give the bits of a layer made with them.

mod common;

use common::Number;
use common::call::{Call, assert_same, sized};
use tidegate::{
    Config, Error, Generator, Level, Mode, Options, OutputMut, RnnBase, View, Workspace,
    set_num_threads,
};

/// A layer of the same form with other parameters.
fn another<E: Number>(of: &RnnBase<E>) -> RnnBase<E> {
    RnnBase::with_generator(*of.config(), &mut Generator::manual_seed(99)).unwrap()
}

/// The call by `layer` with the parameters of its own layer.
fn run<E: Number>(call: &Call<E>, layer: &RnnBase<E>, workspace: &mut Workspace<E>) {
    let parameters: Vec<&[E]> = call.layer.parameters().iter().map(|own| own.data()).collect();
    let shape = [call.steps, call.batch, call.config().input_size];
    let x = View::new(&call.x, &shape).unwrap();
    let options = Options {
        state: Some(call.state()),
        lengths: call.lengths.as_deref(),
        ..Options::default()
    };
    let mut got = layer.empty_output(x).unwrap();
    let out = OutputMut {
        output: got.output.data_mut(),
        h_n: got.h_n.data_mut(),
        c_n: got.c_n.as_mut().map_or(&mut [], |c_n| c_n.data_mut()),
    };
    layer.functional_call_into(&parameters, x, options, workspace, out).unwrap();
    assert_same(&call.name, &got, &call.run(&call.layer));
}

#[test]
fn every_configuration_at_every_level() {
    fn check<E: Number>() {
        let mut workspaces: Vec<_> = Level::available().iter().map(|_| Workspace::new()).collect();
        for seed in 0..200 {
            let call = Call::<E>::new(seed);
            let other = another(&call.layer);
            for (level, workspace) in Level::available().into_iter().zip(&mut workspaces) {
                run(&call, &other.at_level(level), workspace);
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

/// Rows alone and several, whole and partial blocks of units, and all lengths of a chain's strip of inputs.
#[test]
fn every_size_of_a_block() {
    for mode in Mode::ALL {
        for hidden in [1, 7, 8, 16, 17, 40, 64] {
            for inputs in [1, 8, 31, 64, 67, 100] {
                for batch in [1, 3] {
                    let call = sized::<f32>(mode, inputs, hidden, batch);
                    let other = another(&call.layer);
                    for level in Level::available() {
                        run(&call, &other.at_level(level), &mut Workspace::new());
                    }
                }
            }
        }
    }
}

#[test]
fn threads_share_out_its_units_rows_and_directions() {
    tidegate::wake_from(0); // short calls are to be shared out
    let mut workspace = Workspace::new();
    for mode in Mode::ALL {
        for batch in [1, 40] {
            let mut call = sized::<f32>(mode, 200, 1100, batch);
            run(&call, &another(&call.layer), &mut workspace);
            for (threads, bidirectional) in [(2, false), (3, false), (2, true)] {
                set_num_threads(threads);
                let config = Config { bidirectional, ..*call.config() };
                call.layer =
                    RnnBase::with_generator(config, &mut Generator::manual_seed(1)).unwrap();
                let scans = config.num_directions();
                call.h_0 = call.h_0[..batch * 1100].repeat(scans);
                call.c_0 = call.c_0.get(..batch * 1100).unwrap_or_default().repeat(scans);
                run(&call, &another(&call.layer), &mut workspace);
            }
            set_num_threads(0);
        }
    }
}

#[test]
fn parameters_that_do_not_fit_are_refused() {
    let layer = RnnBase::<f32>::new(Config::new(Mode::Gru, 2, 3)).unwrap();
    let fitting: Vec<&[f32]> = layer.parameters().iter().map(|own| own.data()).collect();
    let refused = |parameters: &[&[f32]]| {
        let x = View::new(&[0.0; 2], &[1, 1, 2]).unwrap();
        let out = OutputMut { output: &mut [0.0; 3], h_n: &mut [0.0; 3], c_n: &mut [] };
        let (options, mut workspace) = (Options::default(), Workspace::new());
        layer.functional_call_into(parameters, x, options, &mut workspace, out)
    };
    assert_eq!(refused(&fitting), Ok(()));
    let name = || "bias_hh_l0".to_owned();
    assert_eq!(refused(&fitting[..3]), Err(Error::MissingParameter { name: name() }));
    let short = [fitting[0], fitting[1], fitting[2], &fitting[3][1..]];
    let (expected, got) = (vec![9], vec![8]);
    assert_eq!(refused(&short), Err(Error::ParameterShape { name: name(), expected, got }));
    let more = [&fitting[..], &fitting[..1]].concat();
    assert_eq!(refused(&more), Err(Error::UnexpectedParameter { name: "parameter 4".to_owned() }));
}
