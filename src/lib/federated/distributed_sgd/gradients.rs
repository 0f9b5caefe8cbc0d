//! Computes a batch's gradient in parts: which images are whose, a shard's gradient, the sum over
//! the ranks, and the step along it. As a message, a gradient is `loss` (a scalar) and
//! `gradient.0`, `gradient.1`, … in the order of the model's parameters and of their shapes.
//!
//! Sums are taken pairwise, halves first: where a rank's parts are a half of all, or a quarter, its
//! own sum is one that a single rank takes on the way. So 1, 2, 4, … ranks that cut batches into
//! the same parts have the same bits.

use crate::error::{Error, Result};
use crate::model::{Masks, Model, StateDict};
use crate::train::{Batch, Optimizer};
use std::collections::BTreeMap;
use tch::{Kind, Reduction, Tensor, no_grad};

/// Returns the first and the number of the images that are `rank`'s of `images`: every image is in
/// one shard, and sizes differ by one at most. With fewer images than ranks some shards are empty.
pub fn shard(images: i64, ranks: usize, rank: usize) -> (i64, i64) {
    let cut = |rank: usize| images * rank as i64 / ranks as i64;
    (cut(rank), cut(rank + 1) - cut(rank))
}

/// Returns the shard of `rank` as a message: its `images` and `labels`, the `total` number of
/// images of the batch, and the seed of its `masks` if something is dropped.
pub(super) fn shard_of(batch: &Batch, masks: Masks, ranks: usize, rank: usize) -> StateDict {
    let total = batch.labels.size()[0];
    let (start, count) = shard(total, ranks, rank);
    let mut message = vec![
        ("images".into(), batch.images.narrow(0, start, count)),
        ("labels".into(), batch.labels.narrow(0, start, count)),
        ("total".into(), Tensor::from_slice(&[total])),
    ];
    let seed = masks.seed.map(|seed| Tensor::from_slice(&[seed as i64]));
    message.extend(seed.map(|seed| ("masks".into(), seed)));
    StateDict::new(message)
}

/// Cuts a batch into `parts`, of which each of `ranks` has equally many, side by side; so its shard
/// is that of [`shard`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    parts: usize,
    pub ranks: usize,
}

impl Cut {
    /// Returns a cut into at least `parts` parts.
    pub fn new(parts: usize, ranks: usize) -> Self {
        Self {
            parts: parts.max(1).next_multiple_of(ranks),
            ranks,
        }
    }

    /// Returns what the shard of `rank`, on the model's device, adds to the gradient of the mean
    /// over its batch.
    pub fn gradient(self, model: &Model, rank: usize, own: &StateDict) -> Result<StateDict> {
        let (images, labels) = (field(own, "images")?, field(own, "labels")?);
        let total = i64::try_from(field(own, "total")?.squeeze())?;
        let (first, _) = shard(total, self.ranks, rank);
        let seed = own.get("masks").map(|seed| i64::try_from(seed.squeeze()));
        let seed = seed.transpose()?.map(|seed| seed as u64);
        let each = self.parts / self.ranks;
        let parts = (rank * each..(rank + 1) * each).map(|part| {
            let (start, count) = shard(total, self.parts, part);
            let own = |all: &Tensor| all.f_narrow(0, start - first, count);
            let masks = Masks {
                seed,
                first: start as usize,
            };
            of_part(model, &own(images)?, &own(labels)?, masks, total)
        });
        pairwise(parts.collect::<Result<_>>()?)
    }
}

/// Returns what a part adds to the gradient of the mean over a batch of `total` images.
fn of_part(
    model: &Model,
    images: &Tensor,
    labels: &Tensor,
    masks: Masks,
    total: i64,
) -> Result<StateDict> {
    let parameters = model.parameters();
    let zeros = || {
        parameters
            .iter()
            .map(|parameter| parameter.detach().zeros_like())
    };
    let (loss, gradients) = match labels.size()[0] {
        0 => (
            Tensor::zeros([], (Kind::Float, model.device())),
            zeros().collect(),
        ),
        _ => {
            let loss = |logits: &Tensor| {
                let none = None::<Tensor>;
                let sum = logits.f_cross_entropy_loss(labels, none, Reduction::Sum, -100, 0.0)?;
                Ok(sum / total as f64)
            };
            let step = model.differentiate(images, masks, loss)?;
            (step.loss, step.gradients)
        }
    };
    let named = |(index, gradient)| (format!("gradient.{index}"), gradient);
    let mut part = vec![("loss".to_owned(), loss)];
    part.extend(gradients.into_iter().enumerate().map(named));
    Ok(StateDict::new(part))
}

/// Returns the sum of the gradients that all ranks sent.
pub(super) fn sum(received: BTreeMap<usize, [StateDict; 1]>) -> Result<StateDict> {
    let gradients: Vec<StateDict> = received.into_values().map(|[gradient]| gradient).collect();
    for (rank, gradient) in gradients.iter().enumerate() {
        for (name, tensor) in gradients[0].iter() {
            if field(gradient, name)?.size() != tensor.size() {
                return Err(Error::failed(format!(
                    "rank {rank} sent a `{name}` of another shape"
                )));
            }
        }
    }
    pairwise(gradients)
}

/// Returns the sum of the first half and that of the second, each taken in the same way.
fn pairwise(mut parts: Vec<StateDict>) -> Result<StateDict> {
    let right = parts.split_off(parts.len().div_ceil(2));
    let left = match parts.len() {
        1 => parts.remove(0),
        _ => pairwise(parts)?,
    };
    if right.is_empty() {
        return Ok(left);
    }
    let right = pairwise(right)?;
    let add = |(name, tensor): (&str, &Tensor)| {
        let other = field(&right, name)?;
        Ok((name.to_owned(), no_grad(|| tensor.f_add(other))?))
    };
    Ok(StateDict::new(left.iter().map(add).collect::<Result<_>>()?))
}

/// Moves `model` along a sum of gradients; returns the sum's loss.
pub(super) fn apply(
    sum: &StateDict,
    model: &Model,
    optimizer: &mut Optimizer,
    lr: f64,
) -> Result<f64> {
    let sum = sum.to_device(model.device());
    let count = model.parameters().len();
    let gradients =
        (0..count).map(|index| Ok(field(&sum, &format!("gradient.{index}"))?.shallow_clone()));
    let gradients = gradients.collect::<Result<Vec<_>>>()?;
    optimizer.apply(&gradients, lr);
    crate::runtime::read(field(&sum, "loss")?)
}

/// Returns the tensor `name` of a message.
pub(super) fn field<'a>(message: &'a StateDict, name: &str) -> Result<&'a Tensor> {
    message
        .get(name)
        .ok_or_else(|| Error::failed(format!("a message lacks `{name}`")))
}
