//! tract: the ONNX file, optimised, with its plan kept from call to call. One thread.

use tract_onnx::prelude::*;

use crate::row::{Row, STREAM_STEPS};
use crate::{Ready, Result};

struct Onnx {
    plan: TypedSimpleState,
    /// The sequence, or the inputs of the steps.
    xs: Vec<TValue>,
    states: usize,
    state: TVec<TValue>,
    shape: [usize; 3],
    t: usize,
    y: Option<TValue>,
}

impl Ready for Onnx {
    fn call(&mut self) -> Result<()> {
        let mut inputs = tvec![self.xs[self.t].clone()];
        inputs.extend(self.state.drain(..));
        self.t = (self.t + 1) % self.xs.len();
        let mut outputs = self.plan.run(inputs)?.into_iter();
        self.y = outputs.next();
        self.state = outputs.collect();
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        self.t = 0;
        let zeros = || Tensor::zero::<f32>(&self.shape).map(TValue::from);
        self.state = (0..self.states).map(|_| zeros()).collect::<TractResult<_>>()?;
        Ok(())
    }

    fn answer(&self) -> Result<Vec<f32>> {
        let y = self.y.as_ref().ok_or("not called")?;
        Ok(y.to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}

pub(crate) fn prepare(row: &Row) -> Result<Box<dyn Ready>> {
    if row.threads != 1 {
        return Err("one thread".into());
    }
    let plan = tract_onnx::onnx()
        .model_for_path(row.onnx())?
        .into_optimized()?
        .into_runnable()?
        .spawn()?;
    let tensor = |t, data: &[f32]| Tensor::from_shape(&[t, row.B, row.I], data).map(TValue::from);
    let xs = if row.step() {
        (0..STREAM_STEPS).map(|t| tensor(1, row.x_of(t))).collect::<TractResult<_>>()?
    } else {
        vec![tensor(row.T, &row.x)?]
    };
    let states = if !row.step() {
        0
    } else if row.lstm() {
        2
    } else {
        1
    };
    let mut onnx =
        Onnx { plan, xs, states, state: tvec![], shape: [1, row.B, row.H], t: 0, y: None };
    onnx.reset()?;
    Ok(Box::new(onnx))
}
