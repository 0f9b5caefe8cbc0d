//! State dicts: named tensors in PyTorch's order, and their weighted mean.

use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Named tensors in PyTorch's order: parameters and buffers, `num_batches_tracked` included.
#[derive(Debug)]
pub struct StateDict(Vec<(String, Tensor)>);

impl StateDict {
    /// Takes the tensors as they are; names are expected to differ.
    pub fn new(tensors: Vec<(String, Tensor)>) -> Self {
        Self(tensors)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// By name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.iter().find(|(n, _)| *n == name).map(|(_, tensor)| tensor)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Size of the values: what an upload costs.
    pub fn bytes(&self) -> u64 {
        let size = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        self.iter().map(|(_, tensor)| size(tensor)).sum()
    }

    /// Detached copies that share nothing with these tensors.
    pub fn deep_clone(&self) -> Self {
        self.map(|tensor| tensor.detach().copy())
    }

    /// The tensors on `device`: those already there are shared, the others copied.
    pub fn to_device(&self, device: Device) -> Self {
        self.map(|tensor| tensor.detach().to_device(device))
    }

    fn map(&self, change: impl Fn(&Tensor) -> Tensor) -> Self {
        Self(
            self.0
                .iter()
                .map(|(name, tensor)| (name.clone(), change(tensor)))
                .collect(),
        )
    }
}

/// Weighted mean of state dicts, as FedAvg takes it (McMahan et al. 2017, arXiv:1602.05629, algorithm 1).
///
/// Weights are normalised to sum 1. Every tensor is accumulated in f64 and rounded once to its own type; integers (`num_batches_tracked`)
/// to the nearest. Order and device are those of the first dict.
///
/// # Errors
/// No dicts, as many weights as dicts not given, a weight that is negative or not finite, only zeros, different names, shapes or types.
pub fn weighted_mean(dicts: &[&StateDict], weights: &[f64]) -> Result<StateDict> {
    let shares = shares(dicts.len(), weights)?;
    let Some((first, others)) = dicts.split_first() else {
        return Err(Error::failed("a mean needs at least one state dict"));
    };
    others
        .iter()
        .enumerate()
        .try_for_each(|(i, other)| same_names(first, other, i + 1))?;
    tch::no_grad(|| {
        let mean = |(name, tensor): (&str, &Tensor)| Ok((name.to_string(), mean_of(name, tensor, dicts, &shares)?));
        first.iter().map(mean).collect::<Result<_>>().map(StateDict)
    })
}

/// The weights over their sum.
fn shares(dicts: usize, weights: &[f64]) -> Result<Vec<f64>> {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let wrong = weights.iter().any(|w| !w.is_finite() || *w < 0.0);
    if weights.len() != dicts || wrong || (dicts > 0 && largest == 0.0) {
        return Err(Error::failed("the weights of a mean do not fit")
            .note(
                "expected",
                format!("{dicts} finite weights, none negative, not all zero"),
            )
            .note("found", format!("{weights:?}")));
    }
    // Over the largest first, so that the sum cannot overflow.
    let sum: f64 = weights.iter().map(|w| w / largest).sum();
    Ok(weights.iter().map(|w| w / largest / sum).collect())
}

fn same_names(first: &StateDict, other: &StateDict, index: usize) -> Result<()> {
    let odd = |a: &StateDict, b: &StateDict| a.iter().find(|(n, _)| b.get(n).is_none()).map(|(n, _)| n.to_string());
    match odd(first, other).or_else(|| odd(other, first)) {
        None if first.len() == other.len() => Ok(()),
        name => {
            let name = name.map_or_else(String::new, |name| format!(": `{name}` is in only one of them"));
            let what = format!("state dicts 0 and {index} hold different tensors{name}");
            Err(Error::failed(what)
                .note("expected", format!("{} tensors", first.len()))
                .note("found", format!("{} tensors", other.len())))
        }
    }
}

fn mean_of(name: &str, first: &Tensor, dicts: &[&StateDict], shares: &[f64]) -> Result<Tensor> {
    let kind = first.f_kind()?;
    let mut sum = Tensor::f_zeros(first.size(), (Kind::Double, first.device()))?;
    for (i, (dict, &share)) in dicts.iter().zip(shares).enumerate() {
        let tensor = dict.get(name).unwrap_or(first);
        if tensor.size() != first.size() || tensor.f_kind()? != kind {
            let text = |t: &Tensor| format!("{:?} of {:?}", t.size(), t.kind());
            return Err(
                Error::failed(format!("tensor `{name}` differs between state dicts 0 and {i}"))
                    .note("expected", text(first))
                    .note("found", text(tensor)),
            );
        }
        let term = tensor.f_to_device(first.device())?.f_to_kind(Kind::Double)?;
        let _ = sum.f_add_(&term.f_mul_scalar(share)?)?;
    }
    let is_float = matches!(kind, Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double);
    let mean = if is_float { sum } else { sum.f_round()? };
    Ok(mean.f_to_kind(kind)?)
}
