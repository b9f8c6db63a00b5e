//! Calls at the edge of what is allowed.

use tidegate::{
    Config, Error, GradientsMut, Gru, Lstm, Mode, Options, RnnBase, Saved, Tensor, Upstream, View,
    Workspace,
};

fn tensor(shape: &[usize], scale: f32) -> Tensor<f32> {
    let count: usize = shape.iter().product();
    let data = (0..count).map(|k| scale * ((k * 37 % 101) as f32 / 50.0 - 1.0)).collect::<Vec<_>>();
    Tensor::new(shape, data).unwrap()
}

/// What `layer` leaves in the gradient of its input, which holds numbers before, with `saved`.
fn accumulated(layer: &RnnBase<f32>, x: &Tensor<f32>, mut saved: Saved<f32>) -> Vec<f32> {
    let result = layer.forward_train(x, Options::default(), &mut saved).unwrap();
    let d_output = tensor(result.output.shape(), 1.0);
    let upstream = Upstream { output: Some((&d_output).into()), ..Upstream::default() };
    let mut gradient = tensor(x.shape(), 0.3).data().to_vec();
    let input = Some(&mut gradient[..]);
    let into = GradientsMut { input, accumulate: true, ..GradientsMut::default() };
    layer.backward_into(x, upstream, &saved, &mut Workspace::new(), into).unwrap();
    gradient
}

/// The two directions come to a step in different spans of steps.
#[test]
fn what_is_added_to_an_input_gradient_does_not_depend_on_checkpoints() {
    for mode in [Mode::Lstm, Mode::Gru] {
        let config = Config { bidirectional: true, ..Config::new(mode, 8, 8) };
        let layer = RnnBase::<f32>::new(config).unwrap();
        let x = tensor(&[300, 1, 8], 1.0);
        let want = accumulated(&layer, &x, Saved::new());
        for every in [1, 128, 200, 1000] {
            assert_eq!(accumulated(&layer, &x, Saved::with_checkpoints(every)), want, "{every}");
        }
    }
}

#[test]
fn checkpoints_may_be_further_apart_than_there_are_steps() {
    let layer = Lstm::<f32>::new(3, 4).unwrap();
    let x = tensor(&[4, 1, 3], 1.0);
    let run = |mut saved: Saved<f32>| {
        let result = layer.forward_train(&x, Options::default(), &mut saved).unwrap();
        let d_output = tensor(result.output.shape(), 1.0);
        let upstream = Upstream { output: Some((&d_output).into()), ..Upstream::default() };
        layer.backward(&x, upstream, &saved).unwrap()
    };
    let want = run(Saved::new());
    for every in [5, usize::MAX - 100, usize::MAX] {
        let got = run(Saved::with_checkpoints(every));
        assert_eq!(got.input, want.input);
        assert_eq!(got.parameters, want.parameters);
    }
}

/// They have no length that would be right, and memory of an earlier call of an LSTM would be added to them.
#[test]
fn gradients_of_a_cell_state_that_is_not_there_are_refused() {
    let gru = Gru::<f32>::new(8, 8).unwrap();
    let x = tensor(&[3, 2, 8], 1.0);
    let mut saved = Saved::new();
    gru.forward_train(&x, Options::default(), &mut saved).unwrap();
    let refused = |into: GradientsMut<'_, f32>| {
        let result =
            gru.backward_into(&x, Upstream::default(), &saved, &mut Workspace::new(), into);
        assert!(matches!(result, Err(Error::CellState { expected: false })), "{result:?}");
    };
    refused(GradientsMut { c_0: Some(&mut []), ..GradientsMut::default() });
    refused(GradientsMut { reset_c: Some(&mut []), ..GradientsMut::default() });
    refused(GradientsMut { c_0: Some(&mut [0.0; 16]), ..GradientsMut::default() });
}

/// There is nothing to do, however many times.
#[test]
fn very_many_steps_of_no_sequence_end_at_once() {
    for batch_first in [false, true] {
        for mode in [Mode::Lstm, Mode::Gru] {
            let config = Config {
                batch_first,
                num_layers: 2,
                bidirectional: true,
                ..Config::new(mode, 3, 4)
            };
            let layer = RnnBase::<f32>::new(config).unwrap();
            let steps = usize::MAX / 2;
            let shape = if batch_first { [0, steps, 3] } else { [steps, 0, 3] };
            let x = View::new(&[], &shape).unwrap();
            let result = layer.forward_with(x, Options::default()).unwrap();
            assert!(result.output.data().is_empty());
            assert_eq!(result.h_n.shape(), [4, 0, 4]);
            let mut saved = Saved::with_checkpoints(7);
            layer.forward_train(x, Options::default(), &mut saved).unwrap();
            let gradients = layer.backward(x, Upstream::default(), &saved).unwrap();
            assert!(gradients.parameters.iter().all(|d| d.data().iter().all(|&d| d == 0.0)));
        }
    }
}

#[test]
fn an_array_without_elements_may_have_any_sizes_and_lie_nowhere() {
    assert!(View::<f32>::new(&[], &[0, 1 << 62, 4]).is_ok());
    #[allow(unsafe_code, reason = "nothing is read")]
    // SAFETY: there are no elements.
    let x = unsafe { View::<f32>::from_raw_parts(core::ptr::null(), &[1, 0, 3], &[3, 3, 1]) };
    let (output, _) = Lstm::<f32>::new(3, 4).unwrap().forward(x, None).unwrap();
    assert_eq!(output.shape(), [1, 0, 4]);
}
