//! Parameters under PyTorch's names: how they begin, how they are read and replaced.

use std::collections::HashSet;

use crate::generator::Generator;
use crate::{Config, Element, Error, StateDict, Tensor};

/// Parameters as PyTorch's constructors draw them: uniform in `±1/sqrt(hidden_size)`, one after
/// the other, biases and projections too.
pub(crate) fn initial<E: Element>(
    config: &Config,
    generator: &mut Generator,
) -> Result<Vec<Tensor<E>>, Error> {
    // Rounded to the type first: PyTorch passes the bound as a number of the tensor's type.
    let bound = E::from_f64(1.0 / (config.hidden_size as f64).sqrt());
    let draw = |(_, shape): (String, Vec<usize>)| {
        let mut tensor = Tensor::full(&shape, E::ZERO)?;
        tensor.data_mut().fill_with(|| generator.symmetric(bound));
        Ok(tensor)
    };
    config.parameters().into_iter().map(draw).collect()
}

/// The parameters that `dict` holds under `prefix`, in order.
///
/// Strict: every parameter must be there with its shape, and nothing else under the prefix.
/// `rename` turns the layer's names into the dict's.
pub(crate) fn from_dict<E: Element>(
    config: &Config,
    dict: &StateDict<E>,
    prefix: &str,
    rename: impl Fn(&str) -> String,
) -> Result<Vec<Tensor<E>>, Error> {
    let expected: Vec<(String, Vec<usize>)> = config
        .parameters()
        .into_iter()
        .map(|(name, shape)| (format!("{prefix}{}", rename(&name)), shape))
        .collect();
    let known: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let mut names = dict.names().filter(|name| name.starts_with(prefix));
    if let Some(name) = names.find(|name| !known.contains(name)) {
        return Err(Error::UnexpectedParameter { name: name.to_string() });
    }
    expected
        .into_iter()
        .map(|(name, shape)| match dict.get(&name) {
            None => Err(Error::MissingParameter { name }),
            Some(tensor) if tensor.shape() != shape => {
                Err(Error::ParameterShape { name, expected: shape, got: tensor.shape().to_vec() })
            }
            Some(tensor) => tensor.copy(),
        })
        .collect()
}
