//! The server: hands out the weights, averages what comes back, and takes a step of its own.

use super::client::{NodeReport, divide};
use super::settings::{FedAvgSettings, Federation};
use crate::error::{Error, Result};
use crate::model::{Model, StateDict, weighted_mean};
use crate::train::{FitState, Optimizer, Position};
use tch::{Tensor, no_grad};

/// The global model and the server's optimiser.
pub(super) struct Server<'a> {
    settings: &'a FedAvgSettings,
    pub model: Model,
    optimizer: Optimizer,
}

impl<'a> Server<'a> {
    pub fn new(
        settings: &'a FedAvgSettings,
        federation: &Federation,
        start: &StateDict,
    ) -> Result<Self> {
        let model = Model::from_state(&federation.spec, start, federation.device)?;
        Ok(Self {
            settings,
            optimizer: Optimizer::new(&settings.server, model.parameters()),
            model,
        })
    }

    /// What the nodes of a round receive.
    pub fn handout(&self) -> StateDict {
        divide(&self.model, self.settings.statistics, &self.model.state()).0
    }

    /// Takes a round's results: the parameters move by the server's optimiser, with their
    /// difference to the nodes' mean as the gradient (Reddi et al. 2021, arXiv:2003.00295,
    /// algorithm 2); buffers become the mean. Means are weighted by the nodes' numbers of images.
    pub fn absorb(&mut self, updates: &[StateDict], reports: &[NodeReport]) -> Result<()> {
        let weights: Vec<f64> = reports.iter().map(|report| report.images as f64).collect();
        let mean = weighted_mean(&updates.iter().collect::<Vec<_>>(), &weights)?
            .to_device(self.model.device());
        let parameters = self.model.named_parameters();
        let mut gradients = Vec::new();
        for (name, parameter) in &parameters {
            let target = mean
                .get(name)
                .filter(|target| target.size() == parameter.size());
            let target = target.ok_or_else(|| {
                Error::failed(format!("the nodes' models lack a fitting `{name}`"))
            })?;
            gradients.push(no_grad(|| parameter - target));
        }
        self.optimizer.apply(&gradients, self.settings.server.lr);
        let state = self.model.state();
        for (name, buffer) in state.iter() {
            if parameters.iter().all(|(other, _)| *other != name)
                && let Some(target) = mean.get(name)
            {
                no_grad(|| buffer.shallow_clone().f_copy_(target).map(drop))?;
            }
        }
        match state.iter().find(|(_, tensor)| !is_finite(tensor)) {
            Some((name, _)) => Err(Error::failed(format!(
                "the averaged weights of `{name}` are not finite"
            ))
            .hint("lower the learning rates of nodes and server")),
            None => Ok(()),
        }
    }

    /// After `rounds` rounds; views.
    pub fn state(&self, rounds: usize, kept: Vec<(String, Tensor)>) -> FitState {
        let at = Position {
            epoch: rounds,
            ..Position::default()
        };
        let mut state = self.optimizer.state(&self.model, at);
        state.tensors.extend(kept);
        state
    }

    pub fn restore(&mut self, state: &FitState) -> Result<()> {
        self.model.load_state(&state.part("model"))?;
        self.optimizer.restore(state)
    }
}

fn is_finite(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() || bool::try_from(tensor.isfinite().all()).unwrap_or(false)
}
