//! candle: `candle_nn::rnn`, layers and directions put together by hand as it has single ones.

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use candle_nn::rnn::{GRU, GRUConfig, GRUState, LSTM, LSTMConfig, LSTMState, RNN};

use crate::row::{Row, STREAM_STEPS, swapped};
use crate::{Ready, Result};

enum Layer {
    Lstm(LSTM),
    Gru(GRU),
}

enum State {
    Lstm(LSTMState),
    Gru(GRUState),
}

impl Layer {
    fn new(row: &Row, layer: usize, direction: usize) -> Result<Self> {
        let (inputs, gates) = (row.inputs(layer), if row.lstm() { 4 } else { 3 });
        let rows = gates * row.H;
        let tensor = |name, shape: &[usize]| -> Result<(String, Tensor)> {
            let data = row.parameter(name, layer, direction)?;
            Ok((format!("{name}_l0"), Tensor::from_vec(data, shape, &Device::Cpu)?))
        };
        let tensors = [
            tensor("weight_ih", &[rows, inputs])?,
            tensor("weight_hh", &[rows, row.H])?,
            tensor("bias_ih", &[rows])?,
            tensor("bias_hh", &[rows])?,
        ];
        let vb = VarBuilder::from_tensors(tensors.into(), candle_core::DType::F32, &Device::Cpu);
        Ok(if row.lstm() {
            Self::Lstm(candle_nn::lstm(inputs, row.H, LSTMConfig::default(), vb)?)
        } else {
            Self::Gru(candle_nn::gru(inputs, row.H, GRUConfig::default(), vb)?)
        })
    }

    /// [B, T, I] to [B, T, H].
    fn seq(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Lstm(lstm) => lstm.states_to_tensor(&lstm.seq(x)?)?,
            // its own states_to_tensor makes [B, T H] of them
            Self::Gru(gru) => {
                Tensor::stack(&gru.seq(x)?.into_iter().map(|state| state.h).collect::<Vec<_>>(), 1)?
            }
        })
    }

    fn zero_state(&self, batch: usize) -> Result<State> {
        Ok(match self {
            Self::Lstm(lstm) => State::Lstm(lstm.zero_state(batch)?),
            Self::Gru(gru) => State::Gru(gru.zero_state(batch)?),
        })
    }
}

struct Sequence {
    /// Directions of each layer.
    layers: Vec<Vec<Layer>>,
    x: Tensor,
    y: Option<Tensor>,
}

impl Ready for Sequence {
    fn call(&mut self) -> Result<()> {
        let mut x = self.x.clone();
        for directions in &self.layers {
            let mut outputs = vec![directions[0].seq(&x)?];
            if let Some(reverse) = directions.get(1) {
                outputs.push(reverse.seq(&x.flip(&[1])?)?.flip(&[1])?);
            }
            x = Tensor::cat(&outputs, 2)?;
        }
        self.y = Some(x);
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn answer(&self) -> Result<Vec<f32>> {
        let y = self.y.as_ref().ok_or("not called")?;
        let (b, t, k) = y.dims3()?;
        Ok(swapped(&y.flatten_all()?.to_vec1()?, b, t, k))
    }
}

struct Steps {
    layer: Layer,
    xs: Vec<Tensor>,
    t: usize,
    state: State,
    batch: usize,
}

impl Ready for Steps {
    fn call(&mut self) -> Result<()> {
        let x = &self.xs[self.t];
        self.t = (self.t + 1) % STREAM_STEPS;
        self.state = match (&self.layer, &self.state) {
            (Layer::Lstm(lstm), State::Lstm(state)) => State::Lstm(lstm.step(x, state)?),
            (Layer::Gru(gru), State::Gru(state)) => State::Gru(gru.step(x, state)?),
            _ => unreachable!("the state is the layer's"),
        };
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        (self.t, self.state) = (0, self.layer.zero_state(self.batch)?);
        Ok(())
    }

    fn answer(&self) -> Result<Vec<f32>> {
        let h = match &self.state {
            State::Lstm(state) => state.h(),
            State::Gru(state) => state.h(),
        };
        Ok(h.flatten_all()?.to_vec1()?)
    }
}

pub(crate) fn prepare(row: &Row) -> Result<Box<dyn Ready>> {
    if row.ragged {
        return Err("no lengths".into());
    }
    if row.step() {
        let layer = Layer::new(row, 0, 0)?;
        let x_of = |t| Tensor::from_slice(row.x_of(t), (row.B, row.I), &Device::Cpu);
        let xs = (0..STREAM_STEPS).map(x_of).collect::<candle_core::Result<_>>()?;
        let state = layer.zero_state(row.B)?;
        return Ok(Box::new(Steps { layer, xs, t: 0, state, batch: row.B }));
    }
    let directions =
        |layer| (0..row.D).map(|direction| Layer::new(row, layer, direction)).collect();
    let layers = (0..row.L).map(directions).collect::<Result<_>>()?;
    let x = Tensor::from_vec(row.x_batch_first(), (row.B, row.T, row.I), &Device::Cpu)?;
    Ok(Box::new(Sequence { layers, x, y: None }))
}
