//! The same call in other pieces, batches and layouts: the same bits.

mod common;

use common::Number;
use common::call::{Call, assert_same};
use tidegate::{Config, Generator, Options, Output, RnnBase, Tensor, View};
use tidegate_testing::close::assert_same_bits;
use tidegate_testing::random::Random;

/// Rows `rows` of the batch alone.
fn part<E: Number>(call: &Call<E>, rows: core::ops::Range<usize>) -> Call<E> {
    let rows_of = |data: &[E], width: usize| -> Vec<E> {
        data.chunks_exact(call.batch * width)
            .flat_map(|step| &step[rows.start * width..rows.end * width])
            .copied()
            .collect()
    };
    let config = call.config();
    Call {
        name: format!("{}, rows {rows:?}", call.name),
        layer: call.layer.clone(),
        steps: call.steps,
        batch: rows.len(),
        x: rows_of(&call.x, config.input_size),
        h_0: rows_of(&call.h_0, config.output_size()),
        c_0: rows_of(&call.c_0, config.hidden_size),
        lengths: call.lengths.as_ref().map(|lengths| lengths[rows.clone()].to_vec()),
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for seed in 0..400 {
        let call = Call::<f32>::new(seed);
        let whole = call.run(&call.layer);
        let mut start = 0;
        for length in Random::new(seed).pieces(call.batch) {
            let part = part(&call, start..start + length);
            let got = part.run(&part.layer);
            let rows = |tensor: &Tensor<f32>| -> Vec<f32> {
                let width = tensor.shape()[2];
                let step = call.batch * width;
                let steps = tensor.data().chunks_exact(step);
                steps.flat_map(|s| &s[start * width..(start + length) * width]).copied().collect()
            };
            let shape = got.output.shape();
            assert_same_bits(&part.name, "output", shape, got.output.data(), &rows(&whole.output));
            assert_same_bits(&part.name, "h_n", got.h_n.shape(), got.h_n.data(), &rows(&whole.h_n));
            start += length;
        }
    }
}

#[test]
fn a_stream_in_any_pieces_gives_the_bits_of_one_call() {
    for seed in 0..400 {
        let mut call = Call::<f32>::new(seed);
        call.lengths = None;
        let config = Config { bidirectional: false, ..*call.config() };
        call.layer = RnnBase::with_generator(config, &mut Generator::manual_seed(seed)).unwrap();
        call.h_0.truncate(config.num_layers * call.batch * config.output_size());
        let cells = if config.mode.has_cell_state() { config.hidden_size } else { 0 };
        call.c_0.truncate(config.num_layers * call.batch * cells);
        let want = call.run(&call.layer);

        let mut stream = call.layer.stream(call.batch).unwrap();
        stream.set_state(call.state()).unwrap();
        let (input, size) = (call.batch * config.input_size, call.batch * config.output_size());
        let mut output = Vec::new();
        for piece in Random::new(seed).pieces(call.steps) {
            let done = output.len() / size;
            let x = &call.x[done * input..(done + piece) * input];
            if piece == 1 {
                output.extend_from_slice(stream.step(x).unwrap());
            } else {
                output.resize((done + piece) * size, f32::NAN);
                stream.push(x, &mut output[done * size..]).unwrap();
            }
        }
        assert_same_bits(&call.name, "output", want.output.shape(), &output, want.output.data());
        let (h, c) = stream.state();
        assert_same_bits(&call.name, "h_n", h.shape(), h.data(), want.h_n.data());
        assert_eq!(c, want.c_n, "{}", call.name);

        // From the start again, through a stream that shares the weights.
        stream.reset();
        let mut other = call.layer.stream(call.batch).unwrap();
        assert_eq!(stream.step(&call.x[..input]), other.step(&call.x[..input]));
    }
}

#[test]
fn layouts_change_no_bit() {
    for seed in 0..200 {
        let call = Call::<f32>::new(seed);
        let want = call.run(&call.layer);
        let config = Config { batch_first: true, ..*call.config() };
        let layer = RnnBase::from_state_dict(config, &call.layer.state_dict(), "").unwrap();
        let x =
            ndarray::ArrayView3::from_shape((call.steps, call.batch, config.input_size), &call.x)
                .unwrap();
        // Batch first: once as a transposed view, once reversed in memory.
        let transposed = x.permuted_axes([1, 0, 2]);
        let mut backwards = transposed.to_owned();
        backwards.invert_axis(ndarray::Axis(2));
        let mut reversed = backwards.as_standard_layout().to_owned();
        reversed.invert_axis(ndarray::Axis(2));
        for x in [View::from(transposed), View::from(&reversed)] {
            let options = Options {
                state: Some(call.state()),
                lengths: call.lengths.as_deref(),
                ..Options::default()
            };
            let got = layer.forward_with(x, options).unwrap();
            let got = Output {
                output: Tensor::new(
                    want.output.shape(),
                    got.output
                        .to_ndarray()
                        .permuted_axes(vec![1, 0, 2])
                        .iter()
                        .copied()
                        .collect::<Vec<_>>(),
                )
                .unwrap(),
                ..got
            };
            assert_same(&call.name, &got, &want);
        }
    }
}
