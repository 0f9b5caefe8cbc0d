//! Computes the weighted mean of state dicts, FedAvg's aggregation. Called by the federated
//! methods.

use crate::artifact::StateDict;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Returns the weighted mean of state dicts, as FedAvg takes it (McMahan et al. 2017,
/// arXiv:1602.05629, algorithm 1).
///
/// Weights are normalised to sum 1. Every tensor is accumulated in f64 and rounded once to its own
/// type; integers (`num_batches_tracked`) to the nearest. Order and device are those of the first
/// dict.
///
/// # Errors
/// Fails when there is no dict, when there is not one weight for each dict, when a weight is
/// negative or not finite, when all are zero, and when names, shapes or types differ.
///
/// ```
/// use fed_distill::model::{StateDict, weighted_mean};
/// use tch::Tensor;
///
/// # fn main() -> fed_distill::Result<()> {
/// let dict = |value: f32| StateDict::new(vec![("weight".into(), Tensor::from_slice(&[value]))]);
/// let mean = weighted_mean(&[&dict(1.0), &dict(5.0)], &[3.0, 1.0])?;
/// assert_eq!(mean.get("weight"), Some(&Tensor::from_slice(&[2_f32])));
/// # Ok(())
/// # }
/// ```
pub fn weighted_mean(dicts: &[&StateDict], weights: &[f64]) -> Result<StateDict> {
    weighted_mean_of(dicts.len(), weights, |index| {
        Ok(dicts[index].map(|tensor| tensor.shallow_clone()))
    })
}

/// Returns the [`weighted_mean`] of `count` state dicts, of which no more than two are in memory at
/// a time: `read` is called once with the index of each.
///
/// # Errors
/// Fails when [`weighted_mean`] or `read` does.
pub fn weighted_mean_of(
    count: usize,
    weights: &[f64],
    mut read: impl FnMut(usize) -> Result<StateDict>,
) -> Result<StateDict> {
    let shares = shares(count, weights)?;
    if count == 0 {
        return Err(Error::failed("a mean needs at least one state dict"));
    }
    tch::no_grad(|| {
        let first = read(0)?;
        let mut sums = Vec::new();
        for (_, tensor) in first.iter() {
            sums.push(Tensor::f_zeros(
                tensor.size(),
                (Kind::Double, tensor.device()),
            )?);
        }
        add(&mut sums, &first, &first, 0, shares[0])?;
        for (index, &share) in shares.iter().enumerate().skip(1) {
            let dict = read(index)?;
            check_names(&first, &dict, index)?;
            add(&mut sums, &first, &dict, index, share)?;
        }
        let means = first.iter().zip(sums);
        means
            .map(|((name, tensor), sum)| Ok((name.to_owned(), rounded(sum, tensor.f_kind()?)?)))
            .collect::<Result<_>>()
            .map(StateDict::new)
    })
}

/// Adds `share` · `dict` to `sums`, which are in the order of `first`.
fn add(
    sums: &mut [Tensor],
    first: &StateDict,
    dict: &StateDict,
    index: usize,
    share: f64,
) -> Result<()> {
    for (sum, (name, like)) in sums.iter_mut().zip(first.iter()) {
        let tensor = dict.get(name).unwrap_or(like);
        if tensor.size() != like.size() || tensor.f_kind()? != like.f_kind()? {
            let text = |t: &Tensor| format!("{:?} of {:?}", t.size(), t.kind());
            let what = format!("tensor `{name}` differs between state dicts 0 and {index}");
            return Err(Error::failed(what)
                .note("expected", text(like))
                .note("found", text(tensor)));
        }
        let term = tensor.f_to_device(like.device())?.f_to_kind(Kind::Double)?;
        let _ = sum.f_add_(&term.f_mul_scalar(share)?)?;
    }
    Ok(())
}

/// Converts `sum` to `kind`, rounding to the nearest integer where that is no float type.
fn rounded(sum: Tensor, kind: Kind) -> Result<Tensor> {
    let is_float = matches!(
        kind,
        Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double
    );
    let mean = if is_float { sum } else { sum.f_round()? };
    Ok(mean.f_to_kind(kind)?)
}

/// Divides the weights by their sum.
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

/// Fails when the two dicts do not hold tensors of the same names.
fn check_names(first: &StateDict, other: &StateDict, index: usize) -> Result<()> {
    let odd = |a: &StateDict, b: &StateDict| {
        a.iter()
            .find(|(n, _)| b.get(n).is_none())
            .map(|(n, _)| n.to_string())
    };
    match odd(first, other).or_else(|| odd(other, first)) {
        None if first.len() == other.len() => Ok(()),
        name => {
            let name = name.map_or_else(String::new, |name| {
                format!(": `{name}` is in only one of them")
            });
            let what = format!("state dicts 0 and {index} hold different tensors{name}");
            Err(Error::failed(what)
                .note("expected", format!("{} tensors", first.len()))
                .note("found", format!("{} tensors", other.len())))
        }
    }
}
