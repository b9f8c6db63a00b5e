use std::collections::HashMap;

use crate::Tensor;

/// Tensors by name, in the order they were inserted, as PyTorch's `state_dict()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict<E> {
    entries: Vec<(String, Tensor<E>)>,
    /// Numbers of the entries: a file may have a great many.
    by_name: HashMap<String, usize>,
}

impl<E> StateDict<E> {
    /// A state dict without entries.
    pub fn new() -> Self {
        Self { entries: Vec::new(), by_name: HashMap::new() }
    }

    /// Adds `tensor` under `name`, or replaces the one that is there.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor<E>) {
        let name = name.into();
        match self.by_name.get(&name) {
            Some(&at) => self.entries[at].1 = tensor,
            None => {
                self.by_name.insert(name.clone(), self.entries.len());
                self.entries.push((name, tensor));
            }
        }
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor<E>> {
        self.by_name.get(name).map(|&at| &self.entries[at].1)
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
