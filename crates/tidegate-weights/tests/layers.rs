//! Layers are found by names and shapes, and nothing that does not fit passes.

mod common;

use common::{fixture, raw_safetensors, safetensors, told};
use tidegate::{Config, Generator, Mode, RnnBase, StateDict, Tensor};
use tidegate_weights::{Checkpoint, Dtype, Error, Layer};

/// Configurations of every kind, as far as a checkpoint tells them.
fn configs() -> Vec<Config> {
    let mut configs = Vec::new();
    for mode in [Mode::Lstm, Mode::Gru, Mode::RnnTanh] {
        for num_layers in [1, 2, 3] {
            for (bias, bidirectional) in
                [(true, false), (false, false), (true, true), (false, true)]
            {
                // I = H, so that no size tells another.
                for input_size in [2, 5] {
                    let config = Config::new(mode, input_size, 2);
                    configs.push(Config { num_layers, bias, bidirectional, ..config });
                    if mode == Mode::Lstm {
                        let config = Config { hidden_size: 3, proj_size: 2, ..config };
                        configs.push(Config { num_layers, bias, bidirectional, ..config });
                    }
                }
            }
        }
    }
    configs
}

fn random(config: Config, prefix: &str) -> StateDict<f32> {
    let layer = RnnBase::<f32>::with_generator(config, &mut Generator::manual_seed(1)).unwrap();
    let named = layer.named_parameters();
    named.map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
}

fn open(dict: &StateDict<f32>) -> Checkpoint {
    Checkpoint::from_bytes(safetensors(dict)).unwrap()
}

fn without(dict: &StateDict<f32>, name: &str) -> StateDict<f32> {
    dict.iter().filter(|(other, _)| *other != name).map(|(n, t)| (n, t.clone())).collect()
}

fn with(dict: &StateDict<f32>, name: &str, shape: &[usize]) -> StateDict<f32> {
    let mut dict = dict.clone();
    let zeros = vec![0.0; shape.iter().product()];
    dict.insert(name, Tensor::new(shape, zeros).unwrap());
    dict
}

#[test]
fn every_kind_of_layer_is_found() {
    for config in configs() {
        for prefix in ["", "encoder.", "module.model.0.rnn."] {
            let dict = with(&random(config, prefix), "head.weight", &[3, 4]);
            let checkpoint = open(&dict);
            let [layer] = &checkpoint.discover().unwrap()[..] else { panic!("{config}") };
            assert_eq!((layer.prefix.as_str(), layer.config, layer.cell), (prefix, config, false));
            let parameters: usize =
                layer.names().iter().map(|n| dict.get(n).unwrap().data().len()).sum();
            assert_eq!((layer.parameters, layer.bytes), (parameters, 4 * parameters as u64));
            let loaded = checkpoint.load::<f32>(layer).unwrap();
            assert_eq!(loaded.config(), &config);
            for (name, tensor) in loaded.named_parameters() {
                assert_eq!(dict.get(&format!("{prefix}{name}")), Some(tensor));
            }
        }
    }
}

#[test]
fn a_missing_surplus_or_mis_shaped_parameter_is_named() {
    for config in configs() {
        for prefix in ["", "encoder."] {
            let dict = random(config, prefix);
            for (name, tensor) in dict.iter() {
                let broken = open(&without(&dict, name));
                match broken.layer(None) {
                    Err(error) => assert_names(&error, name),
                    Ok(layer) => panic!("{config} without {name} is {layer}"),
                }

                let mut wrong = tensor.shape().to_vec();
                for axis in 0..wrong.len() {
                    wrong[axis] += 1;
                    let result = open(&with(&dict, name, &wrong)).layer(None);
                    if name.ends_with("weight_ih_l0") && axis == 1 && !config.bidirectional {
                        // Nothing else tells the input's size.
                        assert_eq!(result.unwrap().config.input_size, wrong[1]);
                        wrong[axis] -= 1;
                        continue;
                    }
                    let error = result.unwrap_err();
                    assert!(
                        matches!(&error, Error::ParameterShape { .. } | Error::Layer { .. }),
                        "{config}, {name} {wrong:?}: {error}"
                    );
                    wrong[axis] -= 1;
                }
                let flat = [tensor.data().len()];
                if tensor.shape().len() == 2 {
                    let error =
                        open(&with(&dict, name, &flat)).layer(None).unwrap_err().to_string();
                    assert!(error.contains(&format!("{name}\"")), "{error}");
                    assert!(error.contains(&format!("got {flat:?}")), "{error}");
                }
            }
            for surplus in [
                "weight_ih_l9",
                "bias_ih_l0_g",
                "weight_hh_l01",
                "weight_ih_l0_backward",
                "weight_ih",
            ] {
                let name = format!("{prefix}{surplus}");
                let error = open(&with(&dict, &name, &[2])).layer(None).unwrap_err();
                let expected = match &error {
                    Error::UnexpectedParameter { name: got } => got == &name,
                    // A layer far above: the one below it is missing.
                    Error::MissingParameter { .. } => surplus == "weight_ih_l9",
                    // A cell beside the layer.
                    Error::SeveralLayers { .. } => surplus == "weight_ih",
                    _ => false,
                };
                assert!(expected, "{config}, {name}: {error}");
            }
        }
    }
}

/// Checks that the error is about the parameter `name`, which is missing.
fn assert_names(error: &Error, name: &str) {
    match error {
        Error::MissingParameter { name: got, .. } if got == name => {}
        // Without weight_hr_l0 the others seem to be of a layer without a projection.
        Error::ParameterShape { .. } if name.ends_with("weight_hr_l0") => {}
        _ => panic!("without {name}: {error}"),
    }
}

#[test]
fn biases_must_be_there_for_all_layers_or_none() {
    let config = Config { num_layers: 2, bias: false, ..Config::new(Mode::Gru, 3, 2) };
    let dict = random(config, "g.");
    let partly = with(&with(&dict, "g.bias_ih_l1", &[6]), "g.bias_hh_l1", &[6]);
    let error = open(&partly).discover().unwrap_err().to_string();
    assert_eq!(error, "parameter \"g.bias_ih_l0\" is missing: expected shape [6]");
}

#[test]
fn messages_say_what_was_expected_and_what_came() {
    let config = Config { num_layers: 2, ..Config::new(Mode::Lstm, 3, 4) };
    let dict = random(config, "e.");
    let message = |dict: &StateDict<f32>| told(&open(dict).layer(None).unwrap_err());
    assert_eq!(
        message(&without(&dict, "e.weight_hh_l1")),
        "parameter \"e.weight_hh_l1\" is missing: expected shape [16, 4]"
    );
    assert_eq!(
        message(&with(&dict, "e.weight_ih_l1", &[16, 5])),
        "size mismatch for \"e.weight_ih_l1\": expected shape [16, 4], got [16, 5]"
    );
    assert_eq!(
        message(&with(&dict, "e.weight_ih_l0", &[8, 3])),
        "size mismatch for \"e.weight_ih_l0\": expected shape [rows, 3] with 4, 3 or 1 times 4 \
         rows, got [8, 3]"
    );
    assert_eq!(
        message(&with(&dict, "e.weight_ih_l3", &[16, 4])),
        "parameter \"e.weight_ih_l2\" is missing: expected shape that of a layer between the others"
    );
    assert_eq!(
        message(&with(&dict, "e.gamma", &[4])),
        "unexpected parameter \"e.gamma\": the layer has no such one"
    );
    assert_eq!(
        message(&with(&dict, "e.weight_hh_l0", &[16, 0])),
        "size mismatch for \"e.weight_ih_l0\": expected shape [rows, 3] with 4, 3 or 1 times 0 \
         rows, got [16, 3]"
    );
    assert_eq!(
        message(&with(&random(Config::new(Mode::Gru, 3, 4), "e."), "e.weight_hr_l0", &[2, 4])),
        "layer \"e.\": proj_size argument is only supported for LSTM, not RNN or GRU, but got \
         proj_size=2"
    );
    assert_eq!(
        message(&with(&dict, "e.weight_hr_l1", &[2, 4])),
        "unexpected parameter \"e.weight_hr_l1\": the layer has no such one"
    );
    // Not the layer's: deeper, or beside it.
    assert!(open(&with(&dict, "e.norm.gamma", &[4])).layer(None).is_ok());
    assert!(open(&with(&dict, "gamma", &[4])).layer(None).is_ok());
}

#[test]
fn integers_are_no_parameters() {
    let config = Config { bias: false, ..Config::new(Mode::RnnTanh, 1, 1) };
    let file = safetensors(&random(config, ""));
    let header = String::from_utf8_lossy(&file[8..file.len() - 8]).replace("F32", "I32");
    let checkpoint = Checkpoint::from_bytes(raw_safetensors(&header, &[0; 8])).unwrap();
    let error = checkpoint.discover().unwrap_err().to_string();
    assert!(error.ends_with("got elements of type int32"), "{error}");
}

#[test]
fn a_layer_is_chosen_by_its_prefix() {
    let mut dict = random(Config::new(Mode::Lstm, 3, 4), "state_dict.encoder.");
    for (name, tensor) in random(Config::new(Mode::Gru, 4, 2), "state_dict.decoder.").iter() {
        dict.insert(name, tensor.clone());
    }
    for (name, tensor) in random(Config::new(Mode::Gru, 4, 3), "ema.decoder.").iter() {
        dict.insert(name, tensor.clone());
    }
    let dict = without(&dict, "ema.decoder.weight_hh_l0");
    let checkpoint = open(&dict);
    let found = |prefix| checkpoint.layer(Some(prefix)).map(|layer: Layer| layer.to_string());
    for prefix in ["encoder", "encoder.", "state_dict.encoder", "state_dict.encoder."] {
        assert_eq!(found(prefix).unwrap(), "LSTM(3, 4)", "{prefix}");
    }
    assert_eq!(found("state_dict.decoder").unwrap(), "GRU(4, 2)");
    let message = |prefix| checkpoint.layer(prefix).unwrap_err().to_string();
    let several = "there are several recurrent layers, choose one:";
    assert_eq!(
        message(None),
        format!("{several} \"ema.decoder.\", \"state_dict.decoder.\", \"state_dict.encoder.\"")
    );
    assert_eq!(
        message(Some("decoder")),
        format!("{several} \"ema.decoder.\", \"state_dict.decoder.\"")
    );
    for absent in ["coder", "", "encoder.weight", "state_dict"] {
        let message = message(Some(absent));
        assert!(message.starts_with("there is no recurrent layer \""), "{message}");
        assert!(message.ends_with("\"state_dict.encoder.\""), "{message}");
    }
    // One is broken: that is an error for the whole, not for the others.
    assert!(message(Some("ema.decoder")).contains("ema.decoder.weight_hh_l0\" is missing"));
    assert!(checkpoint.discover().is_err());
    let each = checkpoint.discover_each();
    assert_eq!(each.iter().filter(|(_, layer)| layer.is_ok()).count(), 2);
    assert!(matches!(&each[0], (prefix, Err(_)) if prefix == "ema.decoder."));
}

#[test]
fn cells_are_found_and_loaded() {
    let checkpoint = Checkpoint::from_bytes(fixture("cells.pt")).unwrap();
    let layers = checkpoint.discover().unwrap();
    let lines: Vec<_> = layers.iter().map(|l| format!("{} {l}", l.prefix)).collect();
    assert_eq!(
        lines,
        ["lstm. LSTMCell(3, 4)", "gru. GRUCell(3, 4, bias=False)", "rnn. RNNCell(3, 4)"]
    );
    assert!(layers.iter().all(|layer| layer.cell));
    assert_eq!(layers[0].names()[2], "lstm.bias_ih");

    let dict = checkpoint.state_dict::<f32>(&layers[0]).unwrap();
    let mut cell = tidegate::LstmCell::<f32>::new(3, 4, true).unwrap();
    cell.load_state_dict(&dict, "lstm.").unwrap();
    let x = Tensor::new(&[2, 3], vec![0.5; 6]).unwrap();
    let (h, _) = cell.forward(&x, None).unwrap();
    let stack = checkpoint.load::<f32>(&layers[0]).unwrap();
    let x = Tensor::new(&[1, 2, 3], vec![0.5; 6]).unwrap();
    let result = stack.forward_with(&x, Default::default()).unwrap();
    assert_eq!(result.output.data(), h.data());

    let mut relu = layers[2].clone();
    relu.config.mode = Mode::RnnRelu;
    assert_eq!(relu.to_string(), "RNNCell(3, 4, nonlinearity='relu')");
    assert_eq!(checkpoint.load::<f64>(&relu).unwrap().config().mode, Mode::RnnRelu);
}

#[test]
fn fixtures_hold_their_layers() {
    for (file, lines) in [
        (
            "state_dict.pt",
            &[
                "encoder. LSTM(3, 4, num_layers=2, bidirectional=True)",
                "decoder. GRU(8, 5, bias=False)",
            ][..],
        ),
        (
            "module.pt",
            &[
                "encoder. LSTM(3, 4, num_layers=2, bidirectional=True)",
                "decoder. GRU(8, 5, bias=False)",
            ],
        ),
        ("checkpoint.pt", &["state_dict.rnn. LSTM(3, 4, proj_size=2)"]),
        ("legacy.pt", &["rnn. LSTM(3, 4, proj_size=2)"]),
        ("legacy_module.pt", &["rnn. LSTM(3, 4, proj_size=2)"]),
        ("views.pt", &["rnn. LSTM(3, 4, proj_size=2)"]),
        ("bfloat16.safetensors", &["rnn. LSTM(3, 4, proj_size=2)"]),
        ("arrays.npz", &["rnn. LSTM(3, 4, proj_size=2)"]),
    ] {
        let checkpoint = Checkpoint::from_bytes(fixture(file)).unwrap();
        let layers = checkpoint.discover().unwrap();
        let found: Vec<_> = layers.iter().map(|l| format!("{} {l}", l.prefix)).collect();
        assert_eq!(found, lines, "{file}");
        for layer in &layers {
            checkpoint.load::<f32>(layer).unwrap();
            checkpoint.load::<f64>(layer).unwrap();
        }
    }
    let dtype = |file| Checkpoint::from_bytes(fixture(file)).unwrap().layer(None).unwrap().dtype;
    assert_eq!(dtype("bfloat16.pt"), Dtype::Bf16);
    assert_eq!(dtype("float16.pt"), Dtype::F16);
    // Its biases have fewer bits.
    assert_eq!(dtype("arrays.npz"), Dtype::F64);
}

#[test]
fn a_layer_of_another_file_or_changed_does_not_load() {
    let checkpoint = open(&random(Config::new(Mode::Lstm, 3, 4), ""));
    let mut layer = checkpoint.layer(None).unwrap();
    layer.config.input_size = 5;
    let error = checkpoint.load::<f32>(&layer).unwrap_err().to_string();
    assert!(error.ends_with("expected shape [16, 5], got [16, 3]"), "{error}");
    layer.config.input_size = 3;
    layer.config.num_layers = 2;
    let error = checkpoint.load::<f32>(&layer).unwrap_err().to_string();
    assert_eq!(error, "there is no tensor \"weight_ih_l1\"");
    layer.config.num_layers = 1;
    layer.config.dropout = 2.0;
    assert!(matches!(checkpoint.load::<f32>(&layer), Err(Error::Layer { .. })));
    layer.config.dropout = 0.0;
    layer.config.batch_first = true;
    assert!(checkpoint.load::<f32>(&layer).unwrap().config().batch_first);
}
