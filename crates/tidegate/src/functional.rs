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
    /// each time.
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
        let expected = config.parameters();
        for (k, (name, shape)) in expected.iter().enumerate() {
            match parameters.get(k) {
                None => return Err(Error::MissingParameter { name: name.clone() }),
                Some(own) if own.len() != shape.iter().product() => {
                    let (name, expected, got) = (name.clone(), shape.clone(), vec![own.len()]);
                    return Err(Error::ParameterShape { name, expected, got });
                }
                Some(_) => {}
            }
        }
        if parameters.len() > expected.len() {
            return Err(Error::UnexpectedParameter {
                name: format!("parameter {}", expected.len()),
            });
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
}
