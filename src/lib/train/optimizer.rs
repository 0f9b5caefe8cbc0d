//! SGD or Adam over a model's parameters. Ours, not libtorch's, so that the moments can be saved.

use super::settings::{OptimizerKind, OptimizerSettings};
use super::state::{FitState, Position, restore};
use crate::descent::{Adam, Layout, Sgd};
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
    /// All of these in one buffer each, where the parameters lie in one.
    joined: Option<Joined>,
    steps: i32,
}

/// Parameters and moments, of which the optimiser's other tensors are views.
#[derive(Debug)]
struct Joined {
    layout: Layout,
    parameters: Tensor,
    first: Tensor,
    /// Empty where the optimiser has no second moment.
    second: Tensor,
}

impl Joined {
    fn of(parameters: &[Tensor], kind: OptimizerKind) -> Option<Self> {
        let layout = Layout::of(parameters)?;
        let buffer = layout.packed(parameters)?;
        Some(Self {
            first: layout.zeros(&buffer),
            second: match kind {
                OptimizerKind::Sgd => Tensor::new(),
                OptimizerKind::Adam => layout.zeros(&buffer),
            },
            parameters: buffer,
            layout,
        })
    }
}

impl Optimizer {
    /// An optimiser of `parameters` (leaves that require gradients) with zero moments.
    pub fn new(settings: &OptimizerSettings, parameters: Vec<Tensor>) -> Self {
        let joined = Joined::of(&parameters, settings.kind);
        let zeros = |pick: fn(&Joined) -> &Tensor| match &joined {
            Some(joined) => joined.layout.views(pick(joined)),
            None => parameters.iter().map(|p| p.detach().zeros_like()).collect(),
        };
        let first = zeros(|joined| &joined.first);
        let second = match settings.kind {
            OptimizerKind::Sgd => Vec::new(),
            OptimizerKind::Adam => zeros(|joined| &joined.second),
        };
        Self {
            settings: settings.clone(),
            parameters,
            first,
            second,
            joined,
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
        if let Some(mut joined) = self.joined.take() {
            let gradient = joined.layout.join(gradients, &self.parameters);
            let Joined {
                parameters,
                first,
                second,
                ..
            } = &mut joined;
            self.step_one(parameters, &gradient, first, Some(second), lr);
            self.joined = Some(joined);
            return;
        }
        for (index, gradient) in gradients.iter().enumerate() {
            let mut parameter = self.parameters[index].shallow_clone();
            let mut first = self.first[index].shallow_clone();
            let mut second = self.second.get(index).map(Tensor::shallow_clone);
            self.step_one(&mut parameter, gradient, &mut first, second.as_mut(), lr);
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

    fn step_one(
        &self,
        parameter: &mut Tensor,
        gradient: &Tensor,
        first: &mut Tensor,
        second: Option<&mut Tensor>,
        lr: f64,
    ) {
        let settings = &self.settings;
        match (settings.kind, second) {
            (OptimizerKind::Adam, Some(second)) => {
                let rule = Adam {
                    lr,
                    betas: settings.betas,
                    eps: settings.eps,
                    weight_decay: settings.weight_decay,
                };
                rule.step(parameter, gradient, [first, second], self.steps);
            }
            _ => {
                let rule = Sgd {
                    lr,
                    momentum: settings.momentum,
                    nesterov: settings.nesterov,
                    weight_decay: settings.weight_decay,
                };
                rule.step(parameter, gradient, first);
            }
        }
    }
}
