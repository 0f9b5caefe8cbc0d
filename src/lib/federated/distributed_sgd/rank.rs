//! One rank: the model it holds, and the step it takes in each of the three forms. Its messages are
//! numbered by steps.

use super::gradients::{Cut, apply, field, shard, sum};
use super::settings::{Method, SgdSettings, Task};
use crate::error::Result;
use crate::federated::link::{Kind, Link};
use crate::model::{Model, StateDict};
use crate::train::{Batch, BatchSource, FitState, Optimizer, Position};
use tch::{Tensor, no_grad};

/// One rank at work.
pub(super) struct Rank<'a> {
    method: Method,
    cut: Cut,
    pub model: Model,
    /// Of a parameter server's ranks only rank 0 steps by it.
    pub optimizer: Optimizer,
    pub link: Link<'a>,
    lr: f64,
    /// Batch norm's statistics, as views: a forward pass moves them, though its step may be broken
    /// off.
    statistics: Vec<Tensor>,
    /// Taken, in all epochs.
    pub steps: usize,
}

/// How the forms take a step; each function returns the loss of the whole batch, unless it says
/// otherwise.
impl<'a> Rank<'a> {
    /// With the weights that the shared seed draws, or with those of rank 0's `state`, which every
    /// rank learns of; and where the run stands.
    pub fn begin(
        method: Method,
        settings: &SgdSettings,
        task: &Task,
        mut link: Link<'a>,
        state: Option<FitState>,
    ) -> Result<(Self, Position)> {
        let state = match method {
            Method::Centralised => state,
            // A parameter server alone has moments.
            Method::ParameterServer => {
                link.spread(state.as_ref(), &|name| name.starts_with("model."))?
            }
            Method::AllReduce => link.spread(state.as_ref(), &|_| true)?,
        };
        let mut rng = task.seeds.stream("teacher/initialisation", 0);
        let mut model = Model::new(&task.spec, task.device, &mut rng)?;
        let mut optimizer = Optimizer::new(&settings.optimizer, model.parameters());
        if let Some(state) = &state {
            model.load_state(&state.part("model"))?;
            if method == Method::AllReduce || link.is_server() {
                optimizer.restore(state)?;
            }
        }
        let at = state.map(|state| state.position).unwrap_or_default();
        let ranks = match method {
            Method::Centralised => 1,
            _ => link.ranks(),
        };
        let parameters = model.named_parameters();
        let buffer = |(name, tensor): (&str, &Tensor)| {
            let is_parameter = parameters.iter().any(|(other, _)| *other == name);
            (!is_parameter).then(|| tensor.shallow_clone())
        };
        let rank = Self {
            statistics: model.state().iter().filter_map(buffer).collect(),
            method,
            cut: Cut::new(settings.parts, ranks),
            model,
            optimizer,
            link,
            lr: settings.optimizer.lr,
            steps: usize::try_from(at.optimizer_steps).unwrap_or(0),
        };
        Ok((rank, at))
    }

    /// Takes step `step` of the epoch that `source` has begun. A step that fails leaves the model
    /// as it was.
    pub fn take_step(&mut self, step: usize, source: &mut dyn BatchSource) -> Result<f64> {
        let before: Vec<Tensor> = self.statistics.iter().map(Tensor::copy).collect();
        let loss = self.try_step(step, source);
        if loss.is_err() {
            for (now, before) in self.statistics.iter_mut().zip(&before) {
                no_grad(|| now.f_copy_(before).map(drop))?;
            }
        }
        loss
    }

    fn try_step(&mut self, step: usize, source: &mut dyn BatchSource) -> Result<f64> {
        let loss = match self.method {
            Method::Centralised => self.alone(&source.next(step, &self.model)?),
            Method::AllReduce => self.all_reduce(&source.next(step, &self.model)?),
            Method::ParameterServer if self.link.is_server() => {
                self.serve(&source.next(step, &self.model)?)
            }
            Method::ParameterServer => self.work(),
        }?;
        self.steps += 1;
        Ok(loss)
    }

    fn alone(&mut self, batch: &Batch) -> Result<f64> {
        let images = batch.labels.size()[0];
        let all = self
            .cut
            .gradient(&self.model, 0, &batch.images, &batch.labels, images)?;
        apply(&all, &self.model, &mut self.optimizer, self.lr)
    }

    /// Every rank alike, but that rank 0 takes the sum.
    fn all_reduce(&mut self, batch: &Batch) -> Result<f64> {
        let (rank, ranks) = (self.link.rank(), self.link.ranks());
        let images = batch.labels.size()[0];
        let (start, count) = shard(images, ranks, rank);
        let own = |all: &Tensor| all.narrow(0, start, count);
        let mine = self.cut.gradient(
            &self.model,
            rank,
            &own(&batch.images),
            &own(&batch.labels),
            images,
        )?;
        self.link.upload(self.steps, rank, Kind::Gradient, &mine)?;
        if self.link.is_server() {
            let sum = sum(&mut self.link, self.steps)?;
            for node in 0..ranks {
                self.link.download(self.steps, node, Kind::Gradient, &sum)?;
            }
        }
        let sum = self.link.from_server(self.steps, rank, Kind::Gradient)?;
        apply(&sum, &self.model, &mut self.optimizer, self.lr)
    }

    /// Rank 0 of a parameter server, which works on a shard as well.
    fn serve(&mut self, batch: &Batch) -> Result<f64> {
        let (images, ranks) = (batch.labels.size()[0], self.link.ranks());
        for node in (0..ranks).rev() {
            let (start, count) = shard(images, ranks, node);
            let part = StateDict::new(vec![
                ("images".into(), batch.images.narrow(0, start, count)),
                ("labels".into(), batch.labels.narrow(0, start, count)),
                ("total".into(), Tensor::from_slice(&[images])),
            ]);
            self.link.download(self.steps, node, Kind::Batch, &part)?;
        }
        self.answer()?;
        let sum = sum(&mut self.link, self.steps)?;
        let loss = apply(&sum, &self.model, &mut self.optimizer, self.lr)?;
        let state = self.model.state();
        for node in 0..ranks {
            self.link.download(self.steps, node, Kind::Model, &state)?;
        }
        // What rank 0 sent itself is what it has.
        self.link.from_server(self.steps, 0, Kind::Model)?;
        Ok(loss)
    }

    /// Every other rank of a parameter server. The loss is that of its shard.
    fn work(&mut self) -> Result<f64> {
        let loss = self.answer()?;
        let state = self
            .link
            .from_server(self.steps, self.link.rank(), Kind::Model)?;
        self.model.load_state(&state)?;
        Ok(loss)
    }

    /// Receives a shard and sends its gradient; the shard's loss.
    fn answer(&mut self) -> Result<f64> {
        let rank = self.link.rank();
        let part = self.link.from_server(self.steps, rank, Kind::Batch)?;
        let part = part.to_device(self.model.device());
        let total = i64::try_from(field(&part, "total")?.squeeze())?;
        let (images, labels) = (field(&part, "images")?, field(&part, "labels")?);
        let mine = self
            .cut
            .gradient(&self.model, rank, images, labels, total)?;
        self.link.upload(self.steps, rank, Kind::Gradient, &mine)?;
        Ok(f64::try_from(field(&mine, "loss")?)?)
    }
}
