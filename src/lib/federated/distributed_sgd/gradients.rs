//! A batch's gradient in parts: which images are whose, a shard's part, the sum over the ranks, and the step along it. As a message, a part is
//! `loss` (a scalar) and `gradient.0`, `gradient.1`, … in the order of the model's parameters and of their shapes.

use crate::error::{Error, Result};
use crate::federated::link::{Kind, Link};
use crate::model::{Model, Pass, StateDict};
use crate::train::Optimizer;
use tch::{Kind as Type, Reduction, Tensor, no_grad};

/// The images from `start` on, `count` of them, that are `rank`'s of `images`: every image is in one shard, and sizes differ by one at
/// most. With fewer images than ranks some shards are empty.
pub fn shard(images: i64, ranks: usize, rank: usize) -> (i64, i64) {
    let cut = |rank: usize| images * rank as i64 / ranks as i64;
    (cut(rank), cut(rank + 1) - cut(rank))
}

/// The shard's part of the mean over a batch of `total` images. f32 [N,C,H,W] and i64 [N], on the model's device.
pub(super) fn of_shard(model: &Model, images: &Tensor, labels: &Tensor, total: i64) -> Result<StateDict> {
    let mut parameters = model.parameters();
    let (loss, gradients) = match labels.size()[0] {
        0 => (
            Tensor::zeros([], (Type::Float, model.device())),
            parameters
                .iter()
                .map(|parameter| parameter.detach().zeros_like())
                .collect(),
        ),
        _ => {
            parameters.iter_mut().for_each(Tensor::zero_grad);
            let logits = model.forward(images, &mut Pass::Train);
            let loss = logits.f_cross_entropy_loss(labels, None::<Tensor>, Reduction::Sum, -100, 0.0)? / total as f64;
            loss.f_backward()?;
            (loss.detach(), parameters.iter().map(Tensor::grad).collect::<Vec<_>>())
        }
    };
    let named = |(index, gradient)| (format!("gradient.{index}"), gradient);
    let mut part = vec![("loss".to_owned(), loss)];
    part.extend(gradients.into_iter().enumerate().map(named));
    Ok(StateDict::new(part))
}

/// Rank 0: the sum of what all ranks sent in step `step`, in their order.
pub(super) fn sum(link: &mut Link, step: usize) -> Result<StateDict> {
    let mut sum = link.from_node(step, 0, Kind::Gradient)?;
    for node in 1..link.ranks() {
        let other = link.from_node(step, node, Kind::Gradient)?;
        let add = |(name, tensor): (&str, &Tensor)| {
            let other = field(&other, name)?;
            if other.size() != tensor.size() {
                return Err(Error::failed(format!("rank {node} sent a `{name}` of another shape")));
            }
            Ok((name.to_owned(), no_grad(|| tensor + other)))
        };
        sum = StateDict::new(sum.iter().map(add).collect::<Result<_>>()?);
    }
    Ok(sum)
}

/// Moves `model` along a sum of gradients; the sum's loss.
pub(super) fn apply(sum: &StateDict, model: &Model, optimizer: &mut Optimizer, lr: f64) -> Result<f64> {
    let sum = sum.to_device(model.device());
    let count = model.parameters().len();
    let gradients = (0..count).map(|index| Ok(field(&sum, &format!("gradient.{index}"))?.shallow_clone()));
    let gradients = gradients.collect::<Result<Vec<_>>>()?;
    optimizer.apply(&gradients, lr);
    Ok(f64::try_from(field(&sum, "loss")?)?)
}

/// A part of a message.
pub(super) fn field<'a>(message: &'a StateDict, name: &str) -> Result<&'a Tensor> {
    message
        .get(name)
        .ok_or_else(|| Error::failed(format!("a message lacks `{name}`")))
}
