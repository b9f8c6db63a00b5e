//! The modules against crate `tidegate`, against candle's own LSTM and against PyTorch's training.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use tidegate::{Saved, StateDict, Upstream};
use tidegate_candle::{
    Config, Gru, Lstm, Mode, Options, Output, Rnn, RnnBase, State, clip_grad_norm,
};
use tidegate_testing::fixtures::{self, Kind};
use tidegate_testing::random::Random;

const CPU: Device = Device::Cpu;

fn random(random: &mut Random, shape: &[usize]) -> Tensor {
    let data: Vec<f32> = random.vec(shape.iter().product(), -1.0, 1.0);
    Tensor::from_vec(data, shape, &CPU).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn ours(tensor: &Tensor) -> tidegate::Tensor<f32> {
    tidegate::Tensor::new(tensor.dims(), values(tensor)).unwrap()
}

fn configs() -> Vec<Config> {
    let mut configs = Vec::new();
    for mode in Mode::ALL {
        let base = Config::new(mode, 3, 5);
        configs.push(base);
        configs.push(Config { num_layers: 2, bidirectional: true, batch_first: true, ..base });
        configs.push(Config { bias: false, num_layers: 3, ..base });
    }
    configs.push(Config { proj_size: 2, bidirectional: true, ..Config::new(Mode::Lstm, 3, 5) });
    configs
}

/// A call with everything, through candle and through the core, forward and back: the same bits.
#[test]
fn results_and_gradients_have_the_bits_of_the_core() -> Result<()> {
    for config in configs() {
        let (steps, batch, rng) = (6, 4, &mut Random::new(3));
        let map = VarMap::new();
        let layer = RnnBase::new(config, VarBuilder::from_varmap(&map, DType::F32, &CPU))?;
        let scans = config.num_layers * config.num_directions();
        let shape = if config.batch_first { [batch, steps, 3] } else { [steps, batch, 3] };
        let x = Var::from_tensor(&random(rng, &shape))?;
        let h = Var::from_tensor(&random(rng, &[scans, batch, config.output_size()]))?;
        let c = Var::from_tensor(&random(rng, &[scans, batch, config.hidden_size]))?;
        let has_c = config.mode.has_cell_state();
        let state = State { h: h.as_tensor().clone(), c: has_c.then(|| c.as_tensor().clone()) };
        let lengths = [6, 2, 0, 5];
        let resets: Vec<bool> = (0..steps * batch).map(|_| rng.between(0, 3) == 0).collect();
        let options = Options {
            state: Some(&state),
            lengths: Some(&lengths),
            resets: Some(&resets),
            train: true,
        };
        let result = layer.forward_with(&x, options)?;
        // The loss is half the sum of the squares of all results, so they are their own derivatives.
        let go_back = |result: &Output| {
            let mut loss = result.output.sqr()?.sum_all()?;
            loss = (loss + result.state.h.sqr()?.sum_all()?)?;
            if let Some(c) = &result.state.c {
                loss = (loss + c.sqr()?.sum_all()?)?;
            }
            (loss * 0.5)?.backward()
        };
        let gradients = go_back(&result)?;

        let data = map.data().lock().unwrap();
        let dict: StateDict<f32> =
            data.iter().map(|(name, var)| (name.clone(), ours(var))).collect();
        let core = tidegate::RnnBase::from_state_dict(config, &dict, "").unwrap();
        let (h_0, c_0) = (ours(&h), has_c.then(|| ours(&c)));
        let core_options = tidegate::Options {
            state: Some(tidegate::State::from_tensors(&h_0, c_0.as_ref())),
            lengths: Some(&lengths),
            resets: Some(tidegate::Resets { before: &resets, state: None }),
            ..tidegate::Options::default()
        };
        let mut saved = Saved::new();
        let x_data = ours(&x);
        let want = core.forward_train(&x_data, core_options, &mut saved).unwrap();
        assert_eq!(values(&result.output), want.output.data(), "{config}");
        assert_eq!(values(&result.state.h), want.h_n.data(), "{config}");
        let upstream = Upstream {
            output: Some((&want.output).into()),
            h_n: Some((&want.h_n).into()),
            c_n: want.c_n.as_ref().map(Into::into),
        };
        let want = core.backward(&x_data, upstream, &saved).unwrap();
        let got = |tensor: &Tensor| values(gradients.get(tensor).unwrap());
        assert_eq!(got(&x), want.input.data(), "{config}");
        assert_eq!(got(&h), want.h_0.data(), "{config}");
        if let Some(c_0) = want.c_0 {
            assert_eq!(got(&c), c_0.data(), "{config}");
        }
        for ((name, _), want) in config.parameters().iter().zip(&want.parameters) {
            assert_eq!(got(&data[name]), want.data(), "{config}: {name}");
        }
        // Without variables nothing is kept, and the answer is the same.
        let fixed = data.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor()));
        let fixed: HashMap<String, Tensor> = fixed.collect();
        let fixed = RnnBase::new(config, VarBuilder::from_tensors(fixed, DType::F32, &CPU))?;
        // Of a layer that is not trained there are the gradients of what enters it.
        let of_fixed = go_back(&fixed.forward_with(&x, options)?)?;
        for tensor in [Some(&x), Some(&h), has_c.then_some(&c)].into_iter().flatten() {
            assert_eq!(values(of_fixed.get(tensor).unwrap()), got(tensor), "{config}");
        }
        let detached =
            State { h: h.as_detached_tensor(), c: has_c.then(|| c.as_detached_tensor()) };
        let options = Options { state: Some(&detached), train: false, ..options };
        let again = fixed.forward_with(&x.as_detached_tensor(), options)?;
        assert_eq!(values(&again.output), values(&result.output), "{config}");
        assert!(!again.output.track_op());
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_candles_own_lstm() -> Result<()> {
    use candle_nn::RNN;
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &CPU);
    let config = Config { batch_first: true, ..Config::new(Mode::Lstm, 3, 7) };
    let lstm = Lstm::with_config(config, vb.clone())?;
    let theirs = candle_nn::lstm(3, 7, candle_nn::LSTMConfig::default(), vb)?;
    let x = random(&mut Random::new(5), &[2, 6, 3]);
    let loss = |y: &Tensor| y.sqr()?.sum_all()?.backward();
    let (output, _) = lstm.forward(&x, None)?;
    let states = theirs.seq(&x)?;
    let their_output = theirs.states_to_tensor(&states)?;
    let (got, want) = (loss(&output)?, loss(&their_output)?);
    for (name, var) in map.data().lock().unwrap().iter() {
        let (got, want) = (values(got.get(var).unwrap()), values(want.get(var).unwrap()));
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{name}: {got} {want}");
        }
    }
    Ok(())
}

/// A layer over a linear one, trained as PyTorch has trained it.
#[test]
fn training_ends_where_pytorchs_does() -> Result<()> {
    let mut count = 0;
    for case in fixtures::cases().iter().filter(|case| case.kind == Kind::Training) {
        let tensor = |t: &fixtures::Tensor| Tensor::from_vec(t.to::<f32>(), &t.shape[..], &CPU);
        let map = VarMap::new();
        for (name, parameter) in case.parameters.iter() {
            let var = Var::from_tensor(&tensor(parameter)?)?;
            map.data().lock().unwrap().insert(name.to_string(), var);
        }
        let vb = VarBuilder::from_varmap(&map, DType::F32, &CPU);
        let mode = if case.mode == fixtures::Mode::Gru { Mode::Gru } else { Mode::Lstm };
        let config = Config::new(mode, case.input_size, case.hidden_size);
        let layer = RnnBase::new(config, vb.clone())?;
        let head = Linear::new(
            vb.get((1, case.hidden_size), "head.weight")?,
            Some(vb.get(1, "head.bias")?),
        );
        let (x, target) = (tensor(&case.inputs["input"])?, tensor(&case.inputs["target"])?);
        let adam = ParamsAdamW { lr: 1e-2, weight_decay: 0.0, ..ParamsAdamW::default() };
        let mut optimizer = AdamW::new(map.all_vars(), adam)?;
        let want: Vec<f32> = case.outputs["losses"].to();
        let mut last = f32::NAN;
        for (step, want) in want.iter().enumerate() {
            let output = layer.forward_with(&x, Options::default())?.output;
            let loss = candle_nn::loss::mse(&head.forward(&output)?, &target)?;
            last = loss.to_scalar()?;
            assert!((last - want).abs() <= 1e-4, "{}, step {step}: {last} {want}", case.name);
            optimizer.backward_step(&loss)?;
        }
        println!("{}: loss {} to {last}, PyTorch's {}", case.name, want[0], want[199]);
        assert!(last < 0.2 * want[0], "{}: it did not learn", case.name);
        count += 1;
    }
    assert_eq!(count, 2);
    Ok(())
}

#[test]
fn dropout_is_drawn_in_training_only_and_anew_in_every_call() -> Result<()> {
    let map = VarMap::new();
    let config = Config { num_layers: 2, dropout: 0.5, ..Config::new(Mode::Gru, 3, 8) };
    let gru = Gru::with_config(config, VarBuilder::from_varmap(&map, DType::F64, &CPU))?;
    let x = Tensor::ones((4, 2, 3), DType::F64, &CPU)?;
    let run = |train| {
        let options = Options { train, ..Options::default() };
        gru.forward_with(&x, options)?.output.flatten_all()?.to_vec1::<f64>()
    };
    gru.seed_dropout(7);
    let (first, second) = (run(true)?, run(true)?);
    assert_ne!(first, second);
    gru.seed_dropout(7);
    assert_eq!(run(true)?, first);
    assert_eq!(run(false)?, run(false)?);
    assert_ne!(run(false)?, first);
    Ok(())
}

/// One layer after another with the same parameters; unseeded, as most programs have them.
#[test]
fn no_two_layers_draw_the_same_masks() -> Result<()> {
    let map = VarMap::new();
    let config = Config { num_layers: 2, dropout: 0.5, ..Config::new(Mode::Gru, 3, 32) };
    let x = Tensor::ones((4, 2, 3), DType::F64, &CPU)?;
    let run = || {
        let gru = Gru::with_config(config, VarBuilder::from_varmap(&map, DType::F64, &CPU))?;
        let options = Options { train: true, ..Options::default() };
        gru.forward_with(&x, options)?.output.flatten_all()?.to_vec1::<f64>()
    };
    assert_ne!(run()?, run()?);
    Ok(())
}

#[test]
fn gradients_are_clipped_to_a_norm() -> Result<()> {
    let map = VarMap::new();
    let rnn = Rnn::new(2, 3, VarBuilder::from_varmap(&map, DType::F32, &CPU))?;
    let x = random(&mut Random::new(1), &[5, 2, 2]);
    let mut gradients = rnn.forward(&x, None)?.0.sum_all()?.backward()?;
    let vars = map.all_vars();
    let before: Vec<_> = vars.iter().map(|var| values(gradients.get(var).unwrap())).collect();
    let norm = before.iter().flatten().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    assert!((clip_grad_norm(&vars, &mut gradients, 2.0 * norm)? - norm).abs() < 1e-6 * norm);
    assert_eq!(values(gradients.get(&vars[0]).unwrap()), before[0]);
    clip_grad_norm(&vars, &mut gradients, norm / 4.0)?;
    for (var, before) in vars.iter().zip(&before) {
        for (after, before) in values(gradients.get(var).unwrap()).iter().zip(before) {
            assert!((after - before / 4.0).abs() <= 1e-6 * before.abs().max(1.0));
        }
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error() -> Result<()> {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &CPU);
    let lstm = Lstm::new(3, 4, vb.clone())?;
    let message = |x: &Tensor| lstm.forward(x, None).unwrap_err().to_string();
    let wrong = Tensor::zeros((5, 2, 2), DType::F32, &CPU)?;
    assert!(message(&wrong).contains("Expected 3, got 2"), "{}", message(&wrong));
    let wrong = Tensor::zeros((5, 2, 3), DType::F64, &CPU)?;
    assert!(message(&wrong).contains("expected an input of type F32, got F64"));
    let x = Tensor::zeros((5, 2, 3), DType::F32, &CPU)?;
    let h = Tensor::zeros((1, 3, 4), DType::F32, &CPU)?;
    let error = lstm.forward(&x, Some((&h, &h))).unwrap_err().to_string();
    assert!(error.contains("Expected h_0 size [1, 2, 4], got [1, 3, 4]"), "{error}");
    let error = Gru::with_config(*lstm.config(), vb.clone()).unwrap_err().to_string();
    assert!(error.contains("expected Gru, got LSTM"), "{error}");
    let half = VarBuilder::from_varmap(&VarMap::new(), DType::BF16, &CPU);
    let error = Rnn::new(3, 4, half).unwrap_err().to_string();
    assert!(error.contains("F32 and F64, got BF16"), "{error}");
    Ok(())
}
