//! A recurrent layer with a linear one after its last step.

use std::path::Path;

use anyhow::Result;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::{AdamW, Init, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, loss};
use indicatif::{ProgressBar, ProgressStyle};
use tidegate_candle::{Config, Mode, Options, RnnBase, clip_grad_norm};

use crate::series::{Examples, Windows};

const HIDDEN: usize = 32;
const BATCH: usize = 64;

pub(crate) struct Network {
    layer: RnnBase,
    head: Linear,
    variables: VarMap,
}

/// A trained network, and its error on the test examples after every epoch.
pub(crate) struct Training {
    pub(crate) network: Network,
    pub(crate) curve: Vec<f64>,
}

impl Network {
    fn new(mode: Mode) -> Result<Self> {
        let variables = VarMap::new();
        let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let layer = RnnBase::new(Config::new(mode, 1, HIDDEN), vb.pp("layer"))?;
        let bound = 1.0 / (HIDDEN as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let weight = vb.get_with_hints((1, HIDDEN), "head.weight", init)?;
        let bias = vb.get_with_hints(1, "head.bias", init)?;
        Ok(Self { layer, head: Linear::new(weight, Some(bias)), variables })
    }

    /// Parameters that are the same in every run: candle's generator cannot be seeded on the CPU.
    fn seed(&self) -> Result<()> {
        let mut generator = tidegate::Generator::manual_seed(1);
        let data = self.variables.data().lock().expect("no thread has panicked");
        let mut names: Vec<&String> = data.keys().collect();
        names.sort();
        let bound = 1.0 / (HIDDEN as f32).sqrt();
        for name in names {
            let var = &data[name];
            let values: Vec<f32> = (0..var.elem_count())
                .map(|_| bound * (2.0 * generator.uniform::<f32>() - 1.0))
                .collect();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }

    pub(crate) fn train(
        name: &str,
        mode: Mode,
        windows: &Windows,
        epochs: usize,
    ) -> Result<Training> {
        let network = Self::new(mode)?;
        network.seed()?;
        let examples = &windows.train;
        let mut order: Vec<usize> = (0..examples.count()).collect();
        let mut generator = tidegate::Generator::manual_seed(2);
        let adam = ParamsAdamW { weight_decay: 0.0, ..ParamsAdamW::default() };
        let variables = network.variables.all_vars();
        let mut optimizer = AdamW::new(variables.clone(), adam)?;
        let bar = ProgressBar::new(epochs as u64).with_style(ProgressStyle::with_template(
            "{msg:18} {bar:30} {pos}/{len} epochs, {eta} left",
        )?);
        bar.set_message(name.to_string());
        let mut curve = Vec::new();
        for epoch in 0..epochs {
            for k in (1..order.len()).rev() {
                order.swap(k, (generator.uniform::<f64>() * (k + 1) as f64) as usize);
            }
            // From a fast start to a slow end, along a cosine.
            let done = epoch as f64 / epochs as f64;
            optimizer.set_learning_rate(1e-4 + 5e-3 * (1.0 + (done * std::f64::consts::PI).cos()));
            for batch in order.chunks(BATCH) {
                let (x, target) = tensors(examples, batch)?;
                let loss = loss::mse(&network.outputs(&x)?, &target)?;
                let mut gradients = loss.backward()?;
                clip_grad_norm(&variables, &mut gradients, 1.0)?;
                optimizer.step(&gradients)?;
            }
            curve.push(windows.test.error(&network.forecast(&windows.test)?));
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(Training { network, curve })
    }

    /// Forecasts `[B]` from the windows `x: [T, B, 1]`.
    fn outputs(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let h_n = self.layer.forward_with(x, Options::default())?.state.h;
        self.head.forward(&h_n.squeeze(0)?)?.squeeze(D::Minus1)
    }

    /// The forecast of every example.
    pub(crate) fn forecast(&self, examples: &Examples) -> Result<Vec<f32>> {
        let all: Vec<usize> = (0..examples.count()).collect();
        Ok(self.outputs(&tensors(examples, &all)?.0)?.to_vec1()?)
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        Ok(self.variables.save(path)?)
    }

    pub(crate) fn load(mode: Mode, path: &Path) -> Result<Self> {
        let mut network = Self::new(mode)?;
        network.variables.load(path)?;
        Ok(network)
    }
}

/// The windows `[T, B, 1]` of some examples, and what to forecast from them, `[B]`.
fn tensors(examples: &Examples, which: &[usize]) -> candle_core::Result<(Tensor, Tensor)> {
    let steps = examples.input(0).len();
    let values = (0..steps).flat_map(|t| which.iter().map(move |&k| examples.input(k)[t]));
    let x = Tensor::from_iter(values, &Device::Cpu)?.reshape((steps, which.len(), 1))?;
    let target = Tensor::from_iter(which.iter().map(|&k| examples.target(k)), &Device::Cpu)?;
    Ok((x, target))
}
