//! burn: `burn::nn::Lstm` and `Gru` on its CPU backend flex, layers and directions put together by hand.

use burn::module::Param;
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::{GateController, Linear, Lstm, LstmConfig, LstmState};
use burn::tensor::{Device, Tensor, TensorData};

use crate::row::{Row, STREAM_STEPS, swapped};
use crate::{Ready, Result};

#[expect(clippy::large_enum_variant, reason = "there are a few")]
enum Layer {
    Lstm(Lstm),
    Gru(Gru),
}

/// The `gate`-th of a weight [G H, inputs], as burn wants it: [inputs, H]; and of a bias [G H].
fn linear(weight: &[f32], bias: &[f32], gate: usize, hidden: usize, device: &Device) -> Linear {
    let inputs = weight.len() / bias.len();
    let rows = &weight[gate * hidden * inputs..][..hidden * inputs];
    let columns = swapped(rows, hidden, inputs, 1);
    let bias = bias[gate * hidden..][..hidden].to_vec();
    Linear {
        weight: Param::from_tensor(Tensor::from_data(
            TensorData::new(columns, [inputs, hidden]),
            device,
        )),
        bias: Some(Param::from_tensor(Tensor::from_data(TensorData::new(bias, [hidden]), device))),
    }
}

impl Layer {
    fn new(row: &Row, layer: usize, direction: usize, device: &Device) -> Result<Self> {
        let [w_ih, w_hh, b_ih, b_hh] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
            .map(|name| row.parameter(name, layer, direction));
        let (w_ih, w_hh, b_ih, b_hh) = (w_ih?, w_hh?, b_ih?, b_hh?);
        let gate = |k| GateController {
            input_transform: linear(&w_ih, &b_ih, k, row.H, device),
            hidden_transform: linear(&w_hh, &b_hh, k, row.H, device),
        };
        Ok(if row.lstm() {
            let mut lstm = LstmConfig::new(row.inputs(layer), row.H, true)
                .with_reverse(direction == 1)
                .init(device);
            (lstm.input_gate, lstm.forget_gate, lstm.cell_gate, lstm.output_gate) =
                (gate(0), Some(gate(1)), gate(2), gate(3));
            Self::Lstm(lstm)
        } else {
            let mut gru = GruConfig::new(row.inputs(layer), row.H, true).init(device);
            (gru.reset_gate, gru.update_gate, gru.new_gate) = (gate(0), gate(1), gate(2));
            Self::Gru(gru)
        })
    }

    /// [B, T, I] to [B, T, H].
    fn forward(&self, x: Tensor<3>, reverse: bool) -> Tensor<3> {
        match self {
            Self::Lstm(lstm) => lstm.forward(x, None).0, // it knows its direction
            Self::Gru(gru) if reverse => gru.forward(x.flip([1]), None).flip([1]),
            Self::Gru(gru) => gru.forward(x, None),
        }
    }
}

fn numbers(y: &Tensor<3>) -> Result<Vec<f32>> {
    let [b, t, k] = y.dims();
    let data = y.clone().into_data().try_to_vec::<f32>().map_err(|error| format!("{error:?}"))?;
    Ok(swapped(&data, b, t, k))
}

struct Sequence {
    /// Directions of each layer.
    layers: Vec<Vec<Layer>>,
    x: Tensor<3>,
    y: Option<Tensor<3>>,
}

impl Ready for Sequence {
    fn call(&mut self) -> Result<()> {
        let mut x = self.x.clone();
        for directions in &self.layers {
            let mut outputs: Vec<_> = directions
                .iter()
                .enumerate()
                .map(|(d, layer)| layer.forward(x.clone(), d == 1))
                .collect();
            x = if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(outputs, 2) };
        }
        self.y = Some(x);
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn answer(&self) -> Result<Vec<f32>> {
        numbers(self.y.as_ref().ok_or("not called")?)
    }
}

struct Steps {
    layer: Layer,
    /// [B, 1, I] each.
    xs: Vec<Tensor<3>>,
    t: usize,
    lstm_state: Option<LstmState<2>>,
    /// [B, 1, H].
    y: Option<Tensor<3>>,
}

impl Ready for Steps {
    fn call(&mut self) -> Result<()> {
        let x = self.xs[self.t].clone();
        self.t = (self.t + 1) % STREAM_STEPS;
        self.y = Some(match &self.layer {
            Layer::Lstm(lstm) => {
                let (y, state) = lstm.forward(x, self.lstm_state.take());
                self.lstm_state = Some(state);
                y
            }
            Layer::Gru(gru) => gru.forward(x, self.y.take().map(|h| h.squeeze_dim(1))),
        });
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        (self.t, self.lstm_state, self.y) = (0, None, None);
        Ok(())
    }

    fn answer(&self) -> Result<Vec<f32>> {
        numbers(self.y.as_ref().ok_or("not called")?)
    }
}

pub(crate) fn prepare(row: &Row) -> Result<Box<dyn Ready>> {
    if row.ragged {
        return Err("no lengths".into());
    }
    let device = Device::flex();
    let tensor = |data: Vec<f32>, shape: [usize; 3]| {
        Tensor::from_data(TensorData::new(data, shape), &device)
    };
    if row.step() {
        let layer = Layer::new(row, 0, 0, &device)?;
        let xs =
            (0..STREAM_STEPS).map(|t| tensor(row.x_of(t).to_vec(), [row.B, 1, row.I])).collect();
        return Ok(Box::new(Steps { layer, xs, t: 0, lstm_state: None, y: None }));
    }
    let directions =
        |layer| (0..row.D).map(|direction| Layer::new(row, layer, direction, &device)).collect();
    let layers = (0..row.L).map(directions).collect::<Result<_>>()?;
    Ok(Box::new(Sequence {
        layers,
        x: tensor(row.x_batch_first(), [row.B, row.T, row.I]),
        y: None,
    }))
}
