//! Calls with parameters that are not the layer's.
#![allow(unsafe_code, reason = "matrices that are not packed are read through pointers")]

use crate::rnn::Shared;
use crate::weights::Direction;
use crate::{Element, Error, Options, OutputMut, RnnBase, View, Workspace, memory};

impl<E: Element> RnnBase<E> {
    /// [`forward_into`](Self::forward_into) with other `parameters`, in the order of [`Config::parameters`](crate::Config::parameters),
    /// row by row as PyTorch has them: PyTorch's `torch.func.functional_call`.
    ///
    /// The results have the bits of a layer that was made with these parameters. Making one packs them for all its calls; here
    /// every step packs what it reads, which is the quicker way for calls of few steps with weights that may be others
    /// each time. It takes some small memory of its own. Of a layer [with bf16 weights](RnnBase::with_bf16_weights) the
    /// parameters are used as they are too.
    ///
    /// ```
    /// # use tidegate::{Config, Mode, Options, OutputMut, RnnBase, View, Workspace};
    /// let config = Config::new(Mode::Gru, 2, 3);
    /// let [gru, other] = [RnnBase::<f32>::new(config)?, RnnBase::new(config)?];
    /// let parameters: Vec<&[f32]> = other.parameters().iter().map(|p| p.data()).collect();
    ///
    /// let x = View::new(&[0.1, 0.2], &[1, 1, 2])?; // [T, B, I]
    /// let (mut output, mut h_n) = ([0.0; 3], [0.0; 3]);
    /// let out = OutputMut { output: &mut output, h_n: &mut h_n, c_n: &mut [] };
    /// gru.functional_call_into(&parameters, x, Options::default(), &mut Workspace::new(), out)?;
    /// assert_eq!(output, other.forward_with(x, Options::default())?.output.data());
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward_into`](Self::forward_into); a parameter that is missing or has another number of elements.
    pub fn functional_call_into<'a>(
        &self,
        parameters: &[&[E]],
        x: impl Into<View<'a, E>>,
        options: Options<'a, E>,
        workspace: &mut Workspace<E>,
        out: OutputMut<'_, E>,
    ) -> Result<(), Error> {
        let (config, level) = (*self.config(), self.level());
        for (k, own) in self.parameters().iter().enumerate() {
            let got = parameters.get(k).map(|given| given.len());
            if got != Some(own.data().len()) {
                return Err(self.misfit(k, got));
            }
        }
        let (expected, got) = (self.parameters().len(), parameters.len());
        if got > expected {
            return Err(Error::ParameterCount { expected, got });
        }
        let each = config.direction_parameters(0).len();
        let shared: Shared<E> = memory::or_error(|| {
            let parameters = parameters.chunks_exact(each);
            let mut directions = memory::with_capacity(parameters.len());
            // SAFETY: the parameters are there until this returns, and the directions end with it.
            let given = |own| unsafe { Direction::given(&config, own, level) };
            directions.extend(parameters.map(given));
            Ok(Shared::given(config, level, directions))
        })?;
        shared.forward_into(x.into(), options, workspace, None, out)
    }
    /// What is wrong with parameter `k`, of which there are `got` elements, if it is there.
    #[cold]
    fn misfit(&self, k: usize, got: Option<usize>) -> Error {
        let name = self.named_parameters().nth(k).map(|(name, _)| name).unwrap_or_default();
        match got {
            None => Error::MissingParameter { name },
            Some(got) => {
                let expected = self.parameters()[k].shape().to_vec();
                Error::ParameterShape { name, expected, got: vec![got] }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::{Config, Mode, Tensor, threads};

    /// Every thread with rows of its own would pack all weights.
    #[test]
    fn its_units_are_shared_out_rather_than_its_rows() {
        if threads::offered() < 2 {
            return;
        }
        let config = Config::new(Mode::Lstm, 512, 512);
        let layer = RnnBase::<f32>::new(config).unwrap();
        let parameters: Vec<&[f32]> = layer.parameters().iter().map(Tensor::data).collect();
        // SAFETY: the parameters stay.
        let directions = vec![unsafe { Direction::given(&config, &parameters, layer.level()) }];
        let given = Shared::given(config, layer.level(), directions);
        let batch = Batch::Equal { steps: 1, rows: 80 };
        assert_eq!(format!("{:?}", given.plan(&batch, false, 2)), "Units(2)");
    }
}
