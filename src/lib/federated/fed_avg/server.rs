//! The server's part in a round: hands out the weights, and moves them by the mean of what comes
//! back.

use super::client::divide;
use super::settings::{FedAvgSettings, Statistics, Task};
use crate::error::{Error, Result};
use crate::federated::node::parameters_and_buffers;
use crate::model::{Model, StateDict};
use crate::train::{FitState, Optimizer, Position};
use tch::{Tensor, no_grad};

/// The global model and the server's optimiser.
pub struct Server {
    pub model: Model,
    optimizer: Optimizer,
    /// The optimiser's learning rate.
    lr: f64,
    statistics: Statistics,
}

impl Server {
    /// A server before the first round.
    ///
    /// # Errors
    /// A model that cannot be built.
    pub fn new(settings: &FedAvgSettings, task: &Task) -> Result<Self> {
        let model = task.initial()?;
        Ok(Self {
            optimizer: Optimizer::new(&settings.server, model.parameters()),
            model,
            lr: settings.server.lr,
            statistics: settings.statistics,
        })
    }

    /// Returns what the clients of a round receive.
    pub fn handout(&self) -> StateDict {
        divide(&self.model, self.statistics).0
    }

    /// Ends a round with the mean of the clients' weights, weighted by their numbers of images: the
    /// parameters move by the server's optimiser, with their difference to the mean as the gradient
    /// (Reddi et al. 2021, arXiv:2003.00295, algorithm 2); buffers become the mean.
    ///
    /// # Errors
    /// A mean of another model; weights that become infinite or NaN.
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
        match self
            .model
            .state()
            .iter()
            .find(|(_, tensor)| !is_finite(tensor))
        {
            Some((name, _)) => Err(Error::failed(format!(
                "the averaged weights of `{name}` are not finite"
            ))
            .hint("lower the learning rates of clients and server")),
            None => Ok(()),
        }
    }

    /// Returns where the run stands after `complete` rounds: views.
    pub fn state(&self, complete: usize) -> FitState {
        let position = Position {
            epoch: complete,
            ..Position::default()
        };
        self.optimizer.state(&self.model, position)
    }

    /// Resumes where `state` was taken.
    ///
    /// # Errors
    /// A state of another run.
    pub fn restore(&mut self, state: &FitState) -> Result<()> {
        self.model.load_state(&state.part("model"))?;
        self.optimizer.restore(state)
    }
}

fn is_finite(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() || bool::try_from(tensor.isfinite().all()).unwrap_or(false)
}
