//! rten: the ONNX file, weights packed beforehand.

use std::sync::Arc;

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

use crate::row::{Row, STREAM_STEPS};
use crate::{Ready, Result};

struct Onnx {
    model: Model,
    options: RunOptions,
    /// The sequence, or the inputs of the steps.
    xs: Vec<NdTensor<f32, 3>>,
    x: NodeId,
    state_in: Vec<NodeId>,
    /// y, then the states.
    outputs: Vec<NodeId>,
    state: Vec<Value>,
    shape: [usize; 3],
    t: usize,
    y: Option<Value>,
}

impl Ready for Onnx {
    fn call(&mut self) -> Result<()> {
        let mut inputs: Vec<(NodeId, ValueOrView)> = vec![(self.x, self.xs[self.t].view().into())];
        inputs.extend(
            self.state_in.iter().copied().zip(self.state.drain(..).map(ValueOrView::Value)),
        );
        self.t = (self.t + 1) % self.xs.len();
        let mut outputs = self.model.run(inputs, &self.outputs, Some(self.options.clone()))?;
        self.state = outputs.split_off(1);
        self.y = outputs.pop();
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        self.t = 0;
        self.state = self
            .state_in
            .iter()
            .map(|_| Value::from(NdTensor::<f32, 3>::zeros(self.shape)))
            .collect();
        Ok(())
    }

    fn answer(&self) -> Result<Vec<f32>> {
        let y: NdTensor<f32, 3> = self.y.clone().ok_or("not called")?.try_into()?;
        Ok(y.to_vec())
    }
}

pub(crate) fn prepare(row: &Row) -> Result<Box<dyn Ready>> {
    if row.ragged {
        return Err("no lengths".into());
    }
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(row.onnx())?;
    let pool = ThreadPool::with_num_threads(row.threads);
    let options = RunOptions::default().with_thread_pool(Some(Arc::new(pool)));
    let ids = |names: &[&str]| {
        names.iter().map(|name| model.node_id(name)).collect::<std::result::Result<Vec<_>, _>>()
    };
    let (state_in, outputs) = match (row.step(), row.lstm()) {
        (false, _) => (vec![], ids(&["y"])?),
        (true, true) => (ids(&["h0", "c0"])?, ids(&["y", "hn", "cn"])?),
        (true, false) => (ids(&["h0"])?, ids(&["y", "hn"])?),
    };
    let tensor = |t, data: &[f32]| NdTensor::from_data([t, row.B, row.I], data.to_vec());
    let xs = if row.step() {
        (0..STREAM_STEPS).map(|t| tensor(1, row.x_of(t))).collect()
    } else {
        vec![tensor(row.T, &row.x)]
    };
    let x = model.node_id("x")?;
    let shape = [1, row.B, row.H];
    let mut onnx =
        Onnx { model, options, xs, x, state_in, outputs, state: vec![], shape, t: 0, y: None };
    onnx.reset()?;
    Ok(Box::new(onnx))
}
