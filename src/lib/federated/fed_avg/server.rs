//! Takes the server's part in a round: hands out the weights, and moves them by the mean of what
//! comes back.

use super::settings::{FedAvgSettings, Statistics, Task};
use crate::error::{Error, Result};
use crate::federated::node::parameters_and_buffers;
use crate::model::{Model, StateDict};
use crate::runtime::read;
use crate::train::{FitState, Optimizer, Position};
use tch::{Tensor, no_grad};

/// Holds the global model and the server's optimiser.
pub(super) struct Server {
    pub model: Model,
    optimizer: Optimizer,
    lr: f64,
    statistics: Statistics,
}

impl Server {
    /// Returns a server before the first round.
    pub fn new(settings: &FedAvgSettings, task: &Task) -> Result<Self> {
        let model = task.initial()?;
        Ok(Self {
            optimizer: Optimizer::new(&settings.server, model.parameters()),
            model,
            lr: settings.server.lr,
            statistics: settings.statistics,
        })
    }

    /// Returns what the clients of a round receive, as views.
    pub fn weights(&self) -> StateDict {
        self.statistics.divide(&self.model).0
    }

    /// Ends a round with the mean of the clients' weights, weighted by their numbers of images: the
    /// parameters move by the server's optimiser, with their difference to the mean as the gradient
    /// (Reddi et al. 2021, arXiv:2003.00295, algorithm 2); buffers become the mean.
    ///
    /// # Errors
    /// Fails when the mean is of another model, and when a weight becomes infinite or NaN.
    pub fn step(&mut self, mean: &StateDict) -> Result<()> {
        let mean = mean.to_device(self.model.device());
        let mut gradients = Vec::new();
        for (name, parameter) in self.model.named_parameters() {
            let target = mean.get(name);
            let target = target.filter(|target| target.size() == parameter.size());
            let target = target.ok_or_else(|| {
                Error::failed(format!("the clients' models lack a fitting `{name}`"))
            })?;
            gradients.push(no_grad(|| parameter - target));
        }
        self.optimizer.apply(&gradients, self.lr);
        for (name, buffer) in parameters_and_buffers(&self.model).1.iter() {
            if let Some(target) = mean.get(name) {
                no_grad(|| buffer.shallow_clone().f_copy_(target).map(drop))?;
            }
        }
        let state = self.model.state();
        match state.iter().find(|(_, tensor)| !is_finite(tensor)) {
            Some((name, _)) => Err(Error::failed(format!(
                "the averaged weights of `{name}` are not finite"
            ))
            .hint("lower the learning rates of clients and server")),
            None => Ok(()),
        }
    }

    /// Returns the server's state, as views.
    pub fn state(&self, position: Position) -> FitState {
        self.optimizer.state(&self.model, position)
    }

    /// Continues from `state`.
    pub fn restore(&mut self, state: &FitState) -> Result<()> {
        self.model.load_state(&state.part("model"))?;
        self.optimizer.restore(state)
    }
}

fn is_finite(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() || read(&tensor.isfinite().all()).unwrap_or(false)
}
