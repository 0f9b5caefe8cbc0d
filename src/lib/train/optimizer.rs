//! SGD or Adam over a model's parameters. Ours, not libtorch's, so that the moments can be saved.

use super::settings::{OptimizerKind, OptimizerSettings};
use super::state::{FitState, Position, restore};
use crate::descent::{Adam, Sgd};
use crate::error::Result;
use crate::model::Model;
use tch::Tensor;

/// An optimiser and its moments.
#[derive(Debug)]
pub struct Optimizer {
    settings: OptimizerSettings,
    parameters: Vec<Tensor>,
    /// SGD: the momentum buffer; Adam: the first moment.
    first: Vec<Tensor>,
    /// Adam's second moment.
    second: Vec<Tensor>,
    steps: i32,
}

impl Optimizer {
    /// An optimiser of `parameters` (leaves that require gradients) with zero moments.
    pub fn new(settings: &OptimizerSettings, parameters: Vec<Tensor>) -> Self {
        let zeros = || parameters.iter().map(|p| p.detach().zeros_like()).collect();
        let first = zeros();
        let second = match settings.kind {
            OptimizerKind::Sgd => Vec::new(),
            OptimizerKind::Adam => zeros(),
        };
        Self {
            settings: settings.clone(),
            parameters,
            first,
            second,
            steps: 0,
        }
    }

    /// Moves the parameters against the gradients of `loss` at learning rate `lr`.
    ///
    /// # Errors
    /// What libtorch reports of the backward pass.
    pub fn step(&mut self, loss: &Tensor, lr: f64) -> Result<(), tch::TchError> {
        let gradients = Tensor::f_run_backward(&[loss], &self.parameters, false, false)?;
        self.apply(&gradients, lr);
        Ok(())
    }

    /// Moves the parameters along `gradients`, one of each parameter's shape, wherever they come
    /// from: a sum over workers, or what federated clients ask for.
    pub fn apply(&mut self, gradients: &[Tensor], lr: f64) {
        self.steps += 1;
        for (index, gradient) in gradients.iter().enumerate() {
            match self.settings.kind {
                OptimizerKind::Sgd => self.sgd(index, gradient, lr),
                OptimizerKind::Adam => self.adam(index, gradient, lr),
            }
        }
    }

    /// The moments by name, `first.0`, `first.1`, …: views that follow the optimiser.
    pub fn moments(&self) -> Vec<(String, Tensor)> {
        let named = |prefix: &'static str, moments: &[Tensor]| {
            let name = move |(index, tensor): (usize, &Tensor)| {
                (format!("{prefix}.{index}"), tensor.shallow_clone())
            };
            moments.iter().enumerate().map(name).collect::<Vec<_>>()
        };
        let mut all = named("first", &self.first);
        all.extend(named("second", &self.second));
        all
    }

    /// A run at `at` that trains `model` by this optimiser: `model.*` and the moments, as views,
    /// and the steps taken.
    pub fn state(&self, model: &Model, at: Position) -> FitState {
        let weights = model.state();
        let named =
            |(name, tensor): (&str, &Tensor)| (format!("model.{name}"), tensor.shallow_clone());
        let mut tensors: Vec<(String, Tensor)> = weights.iter().map(named).collect();
        tensors.extend(self.moments());
        let position = Position {
            optimizer_steps: self.steps,
            ..at
        };
        FitState { position, tensors }
    }

    /// Goes on where `state` was taken.
    ///
    /// # Errors
    /// Moments of other parameters.
    pub fn restore(&mut self, state: &FitState) -> Result<()> {
        for (prefix, moments) in [("first", &self.first), ("second", &self.second)] {
            let saved = state.part(prefix);
            for (index, moment) in moments.iter().enumerate() {
                restore(
                    &format!("{prefix}.{index}"),
                    moment,
                    saved.get(&index.to_string()),
                )?;
            }
        }
        self.steps = state.position.optimizer_steps;
        Ok(())
    }

    fn sgd(&mut self, index: usize, gradient: &Tensor, lr: f64) {
        let rule = Sgd {
            lr,
            momentum: self.settings.momentum,
            nesterov: self.settings.nesterov,
            weight_decay: self.settings.weight_decay,
        };
        rule.step(
            &mut self.parameters[index],
            gradient,
            &mut self.first[index],
        );
    }

    fn adam(&mut self, index: usize, gradient: &Tensor, lr: f64) {
        let rule = Adam {
            lr,
            betas: self.settings.betas,
            eps: self.settings.eps,
            weight_decay: self.settings.weight_decay,
        };
        let moments = [&mut self.first[index], &mut self.second[index]];
        rule.step(&mut self.parameters[index], gradient, moments, self.steps);
    }
}
