//! Takes the step of a rank, in each of the three forms. A node is a rank.

use super::gradients::{apply, field, shard_of, sum};
use super::settings::Method;
use super::training::Training;
use crate::error::Result;
use crate::federated::link::Kind;
use crate::federated::node::parameters_and_buffers;
use crate::model::{Masks, StateDict};
use crate::train::BatchSource;
use tch::{Tensor, no_grad};

impl Training<'_> {
    /// Takes step `step` of the epoch that `source` has begun. Returns the loss of the whole batch;
    /// on ranks other than 0 of a parameter server that of the rank's shard. A step that fails
    /// leaves the model as it was: its forward pass may have moved batch norm's statistics.
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
        let (cut, method, is_server) = (self.cut, self.method, self.link.is_server());
        let draws = method != Method::ParameterServer || is_server;
        let batch = draws.then(|| source.next(step, &self.model)).transpose()?;
        let masks = match &batch {
            Some(_) => self.model.masks(|| source.draw()),
            None => Masks::default(),
        };
        let shard = |rank| {
            let shard = |batch| shard_of(batch, masks, cut.ranks, rank);
            batch.as_ref().map(shard).unwrap_or_default()
        };
        if method == Method::Centralised {
            let loss = self.apply(&cut.gradient(&self.model, 0, &shard(0))?)?;
            self.link.end_round();
            return Ok(loss);
        }
        let ranks: Vec<usize> = (0..cut.ranks).collect();
        let hands_out = method == Method::ParameterServer;
        let handout: Option<(_, &dyn Fn(usize) -> StateDict)> =
            hands_out.then_some((Kind::Batch, &shard));
        let mut own_loss = Tensor::new();
        let gradient = &mut |rank, received: StateDict, _: &StateDict| {
            let part = match hands_out {
                true => received.to_device(self.model.device()),
                false => shard(rank),
            };
            let gradient = cut.gradient(&self.model, rank, &part)?;
            own_loss = field(&gradient, "loss")?.shallow_clone();
            Ok([gradient])
        };
        let gradients = self
            .link
            .exchange(&ranks, handout, [Kind::Gradient], gradient, None)?;
        let sum = is_server.then(|| sum(gradients)).transpose()?;
        let loss = match (method, sum) {
            (Method::ParameterServer, Some(sum)) => {
                let loss = self.apply(&sum)?;
                let state = self.model.state();
                self.link.broadcast(Kind::Model, Some(&state))?;
                loss
            }
            (Method::ParameterServer, None) => {
                let state = self.link.broadcast(Kind::Model, None)?;
                self.model.load_state(&state)?;
                crate::runtime::read(&own_loss)?
            }
            (_, sum) => {
                let sum = self.link.broadcast(Kind::Gradient, sum.as_ref())?;
                self.apply(&sum)?
            }
        };
        self.link.end_round();
        Ok(loss)
    }

    fn apply(&mut self, sum: &StateDict) -> Result<f64> {
        let lr = self.settings.optimizer.lr;
        apply(sum, &self.model, &mut self.optimizer, lr)
    }
}
