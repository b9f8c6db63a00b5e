//! `tidegate run`: every option, against the library, bit for bit.

mod common;

use common::*;
use tidegate::{Config, Mode, Options, Output, RnnBase, State};

/// Asserts that the `.npz` file `name` holds `expected`.
fn assert_answer(folder: &Folder, name: &str, expected: &Output<f32>) {
    let c_n = expected.c_n.iter().map(|c_n| ("c_n", c_n));
    for (array, tensor) in
        [("output", &expected.output), ("h_n", &expected.h_n)].into_iter().chain(c_n)
    {
        let got = folder.array(name, array);
        assert_eq!((&got.shape[..], &got.descr[..]), (tensor.shape(), "<f4"), "{array}");
        assert_eq!(got.data, wide(tensor.data()), "{array}");
    }
}

/// A folder with `model.safetensors`, whose layer `rnn` has `config`, and `x.npy` of `shape`.
fn set_up(config: Config, shape: &[usize]) -> (Folder, RnnBase<f32>, Vec<f32>) {
    let folder = Folder::new();
    let layer = layer::<f32>(config);
    let x = noise::<f32>(shape.iter().product());
    save(&folder.path("model.safetensors"), &[("rnn.", &layer)]);
    folder.write("x.npy", npy(shape, &x));
    (folder, layer, x)
}

#[test]
fn every_kind_of_layer_gives_the_bits_of_the_library() {
    let configs = [
        lstm(|_| {}),
        lstm(|config| config.proj_size = 2),
        lstm(|config| (config.bidirectional, config.num_layers) = (true, 2)),
        Config { bias: false, ..Config::new(Mode::Gru, 3, 4) },
        Config { num_layers: 3, ..Config::new(Mode::RnnTanh, 3, 4) },
    ];
    for config in configs {
        for shape in [&[7, 3][..], &[7, 2, 3]] {
            let (folder, layer, x) = set_up(config, shape);
            folder.run("run model.safetensors x.npy --output out.npz").ok();
            let expected = layer.forward_with(view(shape, &x), Options::default()).unwrap();
            assert_answer(&folder, "out.npz", &expected);
        }
    }
}

#[test]
fn a_plain_rnn_is_tanh_and_says_so() {
    for (option, mode) in [
        ("", Mode::RnnTanh),
        ("--nonlinearity tanh", Mode::RnnTanh),
        ("--nonlinearity relu", Mode::RnnRelu),
    ] {
        let (folder, layer, x) = set_up(Config::new(mode, 3, 4), &[6, 3]);
        let outcome = folder.run(&format!("run model.safetensors x.npy -o out.npz {option}")).ok();
        let expected = layer.forward_with(view(&[6, 3], &x), Options::default()).unwrap();
        assert_answer(&folder, "out.npz", &expected);
        assert_eq!(
            outcome.stderr.contains("--nonlinearity relu"),
            option.is_empty(),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn inputs_of_every_format_are_the_same_input() {
    let (folder, layer, _) = set_up(lstm(|_| {}), &[2, 3]);
    // Exact in every type below.
    let x = [1.0f32, -2.0, 3.0, 0.0, 5.0, -7.0];
    let by_columns = [1.0f32, 0.0, -2.0, 5.0, 3.0, -7.0];
    let text = "1,-2,3\n0,5,-7\n";
    folder
        .write("f4.npy", npy(&[2, 3], &x))
        .write("f8.npy", npy(&[2, 3], &x.map(f64::from)))
        .write("f2.npy", npy(&[2, 3], &x.map(half::f16::from_f32)))
        .write("i8.npy", npy(&[2, 3], &x.map(|value| value as i64)))
        .write("columns.npy", npy_in_order(&[2, 3], &by_columns, true))
        .write("x.npz", npz(&[("other", npy(&[1], &[1u8])), ("input", npy(&[2, 3], &x))]))
        .write("x.csv", text)
        .write("header.CSV", format!("a,b,c\n{text}"));
    let expected = layer.forward_with(view(&[2, 3], &x), Options::default()).unwrap();
    let names =
        ["f4.npy", "f8.npy", "f2.npy", "i8.npy", "columns.npy", "x.npz", "x.csv", "header.CSV"];
    for name in names {
        let outcome = folder.run(&format!("run model.safetensors {name} --output out.npz")).ok();
        assert_answer(&folder, "out.npz", &expected);
        assert_eq!(
            outcome.stderr.contains("rounded"),
            name == "f8.npy",
            "{name}: {}",
            outcome.stderr
        );
    }
    folder.run_with_stdin("run model.safetensors - --output out.npz", text).ok();
    assert_answer(&folder, "out.npz", &expected);
}

#[test]
fn outputs_of_every_format_hold_the_same_output() {
    let (folder, layer, x) = set_up(lstm(|_| {}), &[7, 3]);
    let expected = layer.forward_with(view(&[7, 3], &x), Options::default()).unwrap();
    let read = |text: &str| -> Vec<f32> {
        text.lines().flat_map(|line| line.split(',')).map(|value| value.parse().unwrap()).collect()
    };
    folder.run("run model.safetensors x.npy --output out.npy").ok();
    let npy = Array::from_npy(&folder.read("out.npy"));
    assert_eq!((npy.shape, npy.data), (vec![7, 5], wide(expected.output.data())));
    folder.run("run model.safetensors x.npy --output out.csv").ok();
    let text = String::from_utf8(folder.read("out.csv")).unwrap();
    assert_eq!((text.lines().count(), read(&text)), (7, expected.output.data().to_vec()));
    let piped = folder.run("run model.safetensors x.npy --output -").ok();
    assert_eq!((piped.stdout, piped.stderr), (text, String::new()));
    // A text that was written can be read: the output is the input of the next layer.
    let next = common::layer::<f32>(Config::new(Mode::Gru, 5, 2));
    save(&folder.path("next.safetensors"), &[("", &next)]);
    folder.run("run next.safetensors out.csv --output out.npz").ok();
    assert_answer(
        &folder,
        "out.npz",
        &next.forward_with(&expected.output, Options::default()).unwrap(),
    );
}

#[test]
fn a_batch_in_either_order_with_lengths_and_states() {
    let (steps, batch) = (6, 3);
    let config = lstm(|config| (config.bidirectional, config.proj_size) = (true, 2));
    for batch_first in [false, true] {
        let shape = if batch_first { [batch, steps, 3] } else { [steps, batch, 3] };
        let (folder, layer, x) = set_up(config, &shape);
        let layer =
            RnnBase::from_state_dict(Config { batch_first, ..config }, &layer.state_dict(), "")
                .unwrap();
        let (h, c) = (noise::<f32>(2 * batch * 2), noise::<f32>(2 * batch * 5));
        folder
            .write(
                "state.npz",
                npz(&[("h_0", npy(&[2, batch, 2], &h)), ("c_0", npy(&[2, batch, 5], &c))]),
            )
            .write("lengths.npy", npy(&[batch], &[6i64, 0, 4]));
        let state = State { h: view(&[2, batch, 2], &h), c: Some(view(&[2, batch, 5], &c)) };
        let options =
            Options { state: Some(state), lengths: Some(&[6, 0, 4]), ..Options::default() };
        let expected = layer.forward_with(view(&shape, &x), options).unwrap();
        let order = if batch_first { "--batch-first" } else { "" };
        let files = "--state state.npz --lengths lengths.npy --output out.npz";
        folder.run(&format!("run model.safetensors x.npy {order} {files}")).ok();
        assert_answer(&folder, "out.npz", &expected);
    }
}

#[test]
fn chunks_and_threads_change_no_bit() {
    let config = lstm(|config| (config.proj_size, config.num_layers) = (2, 2));
    for (shape, order) in [(&[11, 3][..], ""), (&[11, 4, 3], ""), (&[4, 11, 3], "--batch-first")] {
        let (folder, _, _) = set_up(config, shape);
        let batch: &[usize] = if shape.len() == 3 { &[4] } else { &[] };
        let [h, c] = [2, 5].map(|size| {
            let shape = [&[2], batch, &[size]].concat();
            npy(&shape, &noise::<f32>(shape.iter().product()))
        });
        folder.write("state.npz", npz(&[("h_0", h), ("c_0", c)]));
        let line =
            format!("run model.safetensors x.npy --state state.npz {order} --output out.npz");
        folder.run(&line).ok();
        let whole = folder.read("out.npz");
        for option in
            ["--chunk 1", "--chunk 4", "--chunk 999999", "--threads 1", "--threads 3 --chunk 2"]
        {
            folder.run(&format!("{line} {option}")).ok();
            assert!(folder.read("out.npz") == whole, "{option} {shape:?}");
        }
    }
}

#[test]
fn the_checkpoint_decides_the_element_type() {
    let folder = Folder::new();
    let (config, x) = (lstm(|_| {}), noise::<f64>(12));
    let double = layer::<f64>(config);
    save(&folder.path("double.safetensors"), &[("", &double)]);
    folder.write("x.npy", npy(&[4, 3], &x));
    let outcome = folder.run("run double.safetensors x.npy --output out.npz").ok();
    assert!(!outcome.stderr.contains("rounded"));
    let expected = double.forward_with(view(&[4, 3], &x), Options::default()).unwrap();
    let got = folder.array("out.npz", "output");
    assert_eq!((&got.descr[..], &got.data[..]), ("<f8", expected.output.data()));

    let layer = layer::<f32>(config);
    let half = |value: f32| half::f16::from_f32(value);
    save_as(&folder.path("half.safetensors"), &[("", &layer)], half);
    let widened = layer
        .state_dict()
        .iter()
        .map(|(name, tensor)| {
            let data = tensor.data().iter().map(|&value| half(value).to_f32()).collect();
            (name.to_string(), tidegate::Tensor::new(tensor.shape(), data).unwrap())
        })
        .collect();
    let widened = RnnBase::from_state_dict(config, &widened, "").unwrap();
    let x: Vec<f32> = x.iter().map(|&value| value as f32).collect();
    folder.run("run half.safetensors x.npy --output out.npz").ok();
    assert_answer(
        &folder,
        "out.npz",
        &widened.forward_with(view(&[4, 3], &x), Options::default()).unwrap(),
    );
}

#[test]
fn one_of_several_layers_is_chosen_by_its_prefix() {
    let folder = Folder::new();
    let (first, second) = (layer::<f32>(lstm(|_| {})), layer::<f32>(Config::new(Mode::Gru, 3, 4)));
    save(&folder.path("model.safetensors"), &[("encoder.", &first), ("decoder.rnn.", &second)]);
    let x = noise::<f32>(12);
    folder.write("x.npy", npy(&[4, 3], &x));
    for (prefix, layer) in [("encoder", &first), ("encoder.", &first), ("decoder.rnn", &second)] {
        folder.run(&format!("run model.safetensors x.npy --layer {prefix} -o out.npz")).ok();
        assert_answer(
            &folder,
            "out.npz",
            &layer.forward_with(view(&[4, 3], &x), Options::default()).unwrap(),
        );
    }
}

#[test]
fn a_cell_is_applied_to_every_step() {
    let (folder, layer, x) = set_up(Config::new(Mode::Gru, 3, 4), &[6, 3]);
    let tensors: Vec<_> = layer
        .named_parameters()
        .map(|(name, tensor)| {
            let bytes = tensor.data().iter().flat_map(|value| value.to_le_bytes()).collect();
            (name.replace("_l0", ""), tensor.shape().to_vec(), bytes)
        })
        .collect();
    save_tensors(&folder.path("cell.safetensors"), Dtype::F32, &tensors);
    folder.run("run cell.safetensors x.npy --output out.npz").ok();
    let expected = layer.forward_with(view(&[6, 3], &x), Options::default()).unwrap();
    assert_answer(&folder, "out.npz", &expected);
    assert!(folder.run("inspect cell.safetensors").ok().stdout.contains("GRUCell(3, 4)"));
}

#[test]
fn without_an_output_there_is_a_summary() {
    let (folder, layer, x) = set_up(lstm(|_| {}), &[7, 3]);
    let outcome = folder.run("run model.safetensors x.npy").ok();
    let first = layer.forward_with(view(&[7, 3], &x), Options::default()).unwrap().output.data()[0];
    for part in [
        "rnn: LSTM(3, 5), float32",
        "x.npy [7, 3]",
        "[7, 5]",
        "[1, 5]",
        &format!("{first:.6}"),
        "7 steps in",
        "per step",
        "--output",
    ] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
    assert_eq!(outcome.stderr, "");
    assert_eq!(folder.names(), ["model.safetensors", "x.npy"]);
}

#[test]
fn weights_are_kept_as_bf16_on_request() {
    let (folder, layer, x) = set_up(lstm(|_| {}), &[7, 3]);
    folder.run("run model.safetensors x.npy --output out.npz --bf16-weights").ok();
    let options = Options::default();
    let expected = layer.with_bf16_weights().forward_with(view(&[7, 3], &x), options).unwrap();
    assert_answer(&folder, "out.npz", &expected);
}
