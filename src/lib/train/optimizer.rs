//! Update rules over a model's parameters, PyTorch's SGD and Adam to the letter. Ours, not libtorch's, so that their state can be saved.

use super::settings::{OptimizerKind, OptimizerSettings};
use super::state::{FitState, restore};
use crate::error::Result;
use tch::{Tensor, no_grad};

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

    /// Clears the gradients, computes those of `loss` and moves the parameters at learning rate `lr`.
    ///
    /// # Errors
    /// What libtorch reports of the backward pass.
    pub fn step(&mut self, loss: &Tensor, lr: f64) -> Result<(), tch::TchError> {
        for parameter in &mut self.parameters {
            parameter.zero_grad();
        }
        loss.f_backward()?;
        let gradients: Vec<Tensor> = self.parameters.iter().map(Tensor::grad).collect();
        self.apply(&gradients, lr);
        Ok(())
    }

    /// Moves the parameters along `gradients`, one of each parameter's shape, wherever they come from: a sum over workers, or what
    /// federated clients ask for.
    pub fn apply(&mut self, gradients: &[Tensor], lr: f64) {
        self.steps += 1;
        no_grad(|| {
            for (index, gradient) in gradients.iter().enumerate() {
                match self.settings.kind {
                    OptimizerKind::Sgd => self.sgd(index, gradient, lr),
                    OptimizerKind::Adam => self.adam(index, gradient, lr),
                }
            }
        });
    }

    /// Steps taken.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// The moments by name, `first.0`, `first.1`, …: views that follow the optimiser.
    pub fn moments(&self) -> Vec<(String, Tensor)> {
        let named = |prefix: &'static str, moments: &[Tensor]| {
            let name = move |(index, tensor): (usize, &Tensor)| (format!("{prefix}.{index}"), tensor.shallow_clone());
            moments.iter().enumerate().map(name).collect::<Vec<_>>()
        };
        let mut all = named("first", &self.first);
        all.extend(named("second", &self.second));
        all
    }

    /// Goes on where `state` was taken.
    ///
    /// # Errors
    /// Moments of other parameters.
    pub fn restore(&mut self, state: &FitState) -> Result<()> {
        for (prefix, moments) in [("first", &self.first), ("second", &self.second)] {
            let saved = state.part(prefix);
            for (index, moment) in moments.iter().enumerate() {
                restore(&format!("{prefix}.{index}"), moment, saved.get(&index.to_string()))?;
            }
        }
        self.steps = state.position.optimizer_steps;
        Ok(())
    }

    /// The gradient plus the L2 penalty's.
    fn penalised(&self, index: usize, gradient: &Tensor) -> Tensor {
        match self.settings.weight_decay {
            0.0 => gradient.shallow_clone(),
            decay => gradient + &self.parameters[index] * decay,
        }
    }

    fn sgd(&mut self, index: usize, gradient: &Tensor, lr: f64) {
        let gradient = self.penalised(index, gradient);
        let momentum = self.settings.momentum;
        let buffer = &mut self.first[index];
        let _ = buffer.g_mul_scalar_(momentum).g_add_(&gradient);
        let direction = match self.settings.nesterov {
            true => gradient + &*buffer * momentum,
            false => buffer.shallow_clone(),
        };
        let _ = self.parameters[index].g_sub_(&(direction * lr));
    }

    fn adam(&mut self, index: usize, gradient: &Tensor, lr: f64) {
        let gradient = self.penalised(index, gradient);
        let [beta1, beta2] = self.settings.betas;
        let (m, v) = (&mut self.first[index], &mut self.second[index]);
        let _ = m.g_mul_scalar_(beta1).g_add_(&(&gradient * (1.0 - beta1)));
        let _ = v.g_mul_scalar_(beta2).g_add_(&(gradient.square() * (1.0 - beta2)));
        let corrected = (&*v / (1.0 - beta2.powi(self.steps))).sqrt() + self.settings.eps;
        let update = &*m / corrected * (lr / (1.0 - beta1.powi(self.steps)));
        let _ = self.parameters[index].g_sub_(&update);
    }
}
