//! Layers whose parameters are the caller's.
#![allow(unsafe_code, reason = "matrices that are not packed are read through pointers")]

use tidegate_simd::Level;

use crate::config::parameter_name;
use crate::stack::Stack;
use crate::{Config, Element, Error, Options, OutputMut, View, Workspace, memory};

/// A stack of layers whose parameters the caller has, and may change between calls: as PyTorch's `torch.func.functional_call`.
///
/// It keeps no copy of them. A layer ([`RnnBase`](crate::RnnBase)) packs its parameters once for all calls of inference; here every
/// step packs what it reads, which is the quicker way for calls of few steps with parameters that may be others each time. Training
/// packs them in the [`Workspace`] for each call, as it does for a layer whose parameters change. The results have the bits of a
/// layer made with these parameters.
///
/// ```
/// use tidegate::{Config, Functional, Mode, Options, OutputMut, RnnBase, View, Workspace};
/// let config = Config::new(Mode::Gru, 2, 3);
/// let gru = RnnBase::<f32>::new(config)?;
/// let parameters: Vec<&[f32]> = gru.parameters().iter().map(|p| p.data()).collect();
///
/// let x = View::new(&[0.1, 0.2], &[1, 1, 2])?; // [T, B, I]
/// let (mut output, mut h_n) = ([0.0; 3], [0.0; 3]);
/// let out = OutputMut { output: &mut output, h_n: &mut h_n, c_n: &mut [] };
/// let layer = Functional::new(config, &parameters)?;
/// layer.forward_into(x, Options::default(), &mut Workspace::new(), out)?;
/// assert_eq!(output, gru.forward_with(x, Options::default())?.output.data());
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Copy, Clone, Debug)]
pub struct Functional<'p, E = f32> {
    pub(crate) config: Config,
    pub(crate) level: Level,
    /// As many as `config` says, each of as many elements.
    pub(crate) parameters: &'p [&'p [E]],
}

impl<'p, E: Element> Functional<'p, E> {
    /// Of `parameters` in the order of [`Config::parameters`], row by row as PyTorch has them.
    ///
    /// # Errors
    /// As [`Config::validate`]; a parameter that is missing or has another number of elements: the error names it.
    pub fn new(config: Config, parameters: &'p [&'p [E]]) -> Result<Self, Error> {
        config.validate()?;
        let mut k = 0;
        for layer in 0..config.num_layers {
            for direction in 0..config.num_directions() {
                for (name, shape) in config.direction_parameters(layer) {
                    let got = parameters.get(k).map(|given| given.len());
                    if got != Some(shape.iter().product()) {
                        return Err(misfit(parameter_name(name, layer, direction), shape, got));
                    }
                    k += 1;
                }
            }
        }
        match parameters.len() {
            got if got > k => Err(Error::ParameterCount { expected: k, got }),
            _ => Ok(Self { config, level: Level::best(), parameters }),
        }
    }

    /// The same layer computed with the instructions of `level`; the results have the same bits.
    #[must_use]
    pub fn at_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// As [`RnnBase::forward_into`](crate::RnnBase::forward_into), but for some small memory that it takes.
    ///
    /// # Errors
    /// As there.
    pub fn forward_into<'a>(
        &self,
        x: impl Into<View<'a, E>>,
        options: Options<'a, E>,
        workspace: &mut Workspace<E>,
        out: OutputMut<'_, E>,
    ) -> Result<(), Error> {
        let Self { config, level, parameters } = *self;
        let stack = memory::or_error(|| {
            // SAFETY: the parameters are borrowed until this returns, and the stack ends with it.
            Ok(unsafe { Stack::given(config, level, parameters) })
        })?;
        stack.forward_into(x.into(), options, workspace, None, out)
    }
}

/// What is wrong with a parameter, of which there are `got` elements, if it is there.
#[cold]
fn misfit(name: String, expected: Vec<usize>, got: Option<usize>) -> Error {
    match got {
        None => Error::MissingParameter { name },
        Some(got) => Error::ParameterShape { name, expected, got: vec![got] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::{Mode, RnnBase, Tensor, threads};

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
        let given = unsafe { Stack::given(config, layer.level(), &parameters) };
        let batch = Batch::Equal { steps: 1, rows: 80 };
        assert_eq!(format!("{:?}", given.plan(&batch, false, 2)), "Units(2)");
    }
}
