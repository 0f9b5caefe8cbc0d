//! The step that a rank takes in each of the three forms. A node is a rank. Each function returns
//! the loss of the whole batch, unless it says otherwise.

use super::gradients::{apply, field, shard, sum};
use super::settings::Method;
use super::training::Training;
use crate::error::Result;
use crate::federated::link::Kind;
use crate::federated::node::parameters_and_buffers;
use crate::model::StateDict;
use crate::train::{Batch, BatchSource};
use tch::{Tensor, no_grad};

impl Training<'_> {
    /// Takes step `step` of the epoch that `source` has begun. A step that fails leaves the model
    /// as it was: its forward pass may have moved batch norm's statistics.
    pub(super) fn take_step(&mut self, step: usize, source: &mut dyn BatchSource) -> Result<f64> {
        let (_, statistics) = parameters_and_buffers(&self.model);
        let before = statistics.deep_clone();
        let loss = self.try_step(step, source);
        if loss.is_err() {
            for ((_, now), (_, before)) in statistics.iter().zip(before.iter()) {
                no_grad(|| now.shallow_clone().f_copy_(before).map(drop))?;
            }
        }
        loss
    }

    fn try_step(&mut self, step: usize, source: &mut dyn BatchSource) -> Result<f64> {
        let draws = self.method != Method::ParameterServer || self.link.is_server();
        let batch = match draws {
            true => Some(source.next(step, &self.model)?),
            false => None,
        };
        let loss = match (self.method, &batch) {
            (Method::Centralised, Some(batch)) => self.alone(batch),
            (Method::AllReduce, Some(batch)) => self.all_reduce(batch),
            (_, batch) => self.parameter_server(batch.as_ref()),
        }?;
        self.link.complete += 1;
        Ok(loss)
    }

    fn alone(&mut self, batch: &Batch) -> Result<f64> {
        let (images, labels) = (&batch.images, &batch.labels);
        let gradient = self
            .cut
            .gradient(&self.model, 0, images, labels, labels.size()[0])?;
        self.apply(&gradient)
    }

    /// Every rank computes its shard's gradient; rank 0 takes the sum, and all step by it.
    fn all_reduce(&mut self, batch: &Batch) -> Result<f64> {
        let images = batch.labels.size()[0];
        let ranks: Vec<usize> = (0..self.link.ranks()).collect();
        let gradients = self
            .link
            .exchange(&ranks, None, [Kind::Gradient], &mut |rank, _| {
                let (start, count) = shard(images, ranks.len(), rank);
                let own = |all: &Tensor| all.narrow(0, start, count);
                let (own, labels) = (own(&batch.images), own(&batch.labels));
                Ok([self
                    .cut
                    .gradient(&self.model, rank, &own, &labels, images)?])
            })?;
        let sum = match self.link.is_server() {
            true => Some(sum(gradients)?),
            false => None,
        };
        let sum = self.link.broadcast(Kind::Gradient, sum.as_ref())?;
        self.apply(&sum)
    }

    /// Every rank receives a shard and sends its gradient; rank 0, which alone draws the `batch`,
    /// steps by the sum and sends the model back. On other ranks the loss is that of the shard.
    fn parameter_server(&mut self, batch: Option<&Batch>) -> Result<f64> {
        let ranks: Vec<usize> = (0..self.link.ranks()).collect();
        let (device, mut loss) = (self.model.device(), 0.0);
        let handout = |rank| {
            batch.map_or_else(
                || StateDict::new(Vec::new()),
                |batch| {
                    let total = batch.labels.size()[0];
                    let (start, count) = shard(total, ranks.len(), rank);
                    StateDict::new(vec![
                        ("images".into(), batch.images.narrow(0, start, count)),
                        ("labels".into(), batch.labels.narrow(0, start, count)),
                        ("total".into(), Tensor::from_slice(&[total])),
                    ])
                },
            )
        };
        let gradients = self.link.exchange(
            &ranks,
            Some((Kind::Batch, &handout)),
            [Kind::Gradient],
            &mut |rank, part| {
                let part = part.to_device(device);
                let total = i64::try_from(field(&part, "total")?.squeeze())?;
                let (images, labels) = (field(&part, "images")?, field(&part, "labels")?);
                let gradient = self
                    .cut
                    .gradient(&self.model, rank, images, labels, total)?;
                loss = f64::try_from(field(&gradient, "loss")?)?;
                Ok([gradient])
            },
        )?;
        if !self.link.is_server() {
            let state = self.link.broadcast(Kind::Model, None)?;
            self.model.load_state(&state)?;
            return Ok(loss);
        }
        let loss = self.apply(&sum(gradients)?)?;
        let state = self.model.state();
        self.link.broadcast(Kind::Model, Some(&state))?;
        Ok(loss)
    }

    fn apply(&mut self, sum: &StateDict) -> Result<f64> {
        apply(
            sum,
            &self.model,
            &mut self.optimizer,
            self.settings.optimizer.lr,
        )
    }
}
