//! Defines state dicts: named tensors in PyTorch's order.

use tch::{Device, Tensor};

/// Holds named tensors in PyTorch's order: parameters and buffers, `num_batches_tracked` included.
#[derive(Debug, Default)]
pub struct StateDict(Vec<(String, Tensor)>);

impl StateDict {
    /// Takes the tensors as they are; names are expected to differ.
    pub fn new(tensors: Vec<(String, Tensor)>) -> Self {
        Self(tensors)
    }

    /// Iterates over names and tensors in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Returns the tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, tensor)| tensor)
    }

    /// Returns the number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the size of all values: what an upload costs.
    pub fn bytes(&self) -> u64 {
        let size = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        self.iter().map(|(_, tensor)| size(tensor)).sum()
    }

    /// Returns the tensors whose names begin with `prefix` and a dot, as views under the rest of
    /// their names, in their order.
    pub fn part(&self, prefix: &str) -> Self {
        let named = |(name, tensor): (&str, &Tensor)| {
            let rest = name.strip_prefix(prefix)?.strip_prefix('.')?;
            Some((rest.to_owned(), tensor.shallow_clone()))
        };
        Self(self.iter().filter_map(named).collect())
    }

    /// Divides the tensors into those whose names are `wanted` and the others.
    pub fn partition(self, wanted: impl Fn(&str) -> bool) -> (Self, Self) {
        let (first, second) = self.0.into_iter().partition(|(name, _)| wanted(name));
        (Self(first), Self(second))
    }

    /// Returns views of the tensors, under names that begin with `prefix` and a dot.
    pub fn prefixed(&self, prefix: &str) -> Self {
        let named =
            |(name, tensor): (&str, &Tensor)| (format!("{prefix}.{name}"), tensor.shallow_clone());
        Self(self.iter().map(named).collect())
    }

    /// Returns these tensors, followed by those of `other`.
    pub fn joined(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Returns views of the tensors.
    pub fn share(&self) -> Self {
        self.map(Tensor::shallow_clone)
    }

    /// Returns detached copies that share nothing with these tensors.
    pub fn deep_clone(&self) -> Self {
        self.map(|tensor| tensor.detach().copy())
    }

    /// Returns the tensors on `device`: those already there are shared, the others copied.
    pub fn to_device(&self, device: Device) -> Self {
        self.map(|tensor| tensor.detach().to_device(device))
    }

    /// Applies `change` to every tensor.
    pub fn map(&self, change: impl Fn(&Tensor) -> Tensor) -> Self {
        Self(
            self.0
                .iter()
                .map(|(name, tensor)| (name.clone(), change(tensor)))
                .collect(),
        )
    }
}
