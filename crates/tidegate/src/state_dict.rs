use crate::Tensor;

/// Tensors by name, in the order they were inserted, as PyTorch's `state_dict()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict<E> {
    entries: Vec<(String, Tensor<E>)>,
}

impl<E> StateDict<E> {
    /// A state dict without entries.
    pub fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds `tensor` under `name`, or replaces the one that is there.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor<E>) {
        let name = name.into();
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some((_, entry)) => *entry = tensor,
            None => self.entries.push((name, tensor)),
        }
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor<E>> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor<E>)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<E, N: Into<String>> FromIterator<(N, Tensor<E>)> for StateDict<E> {
    fn from_iter<I: IntoIterator<Item = (N, Tensor<E>)>>(entries: I) -> Self {
        let mut dict = Self::new();
        for (name, tensor) in entries {
            dict.insert(name, tensor);
        }
        dict
    }
}
