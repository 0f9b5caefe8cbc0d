//! Updates a model's parameters by SGD or Adam. libtorch's optimisers are not used because tch does
//! not let their moments be saved. Called by [`fit`](super::fit) and the federated methods.

use super::settings::{OptimizerKind, OptimizerSettings};
use super::state::{FitState, Position, restore};
use crate::error::Result;
use crate::model::Model;
use crate::optim::{Adam, Layout, Sgd};
use tch::{Tensor, no_grad};

/// Holds the parameters that an optimiser updates, and its moments.
#[derive(Debug)]
pub struct Optimizer {
    settings: OptimizerSettings,
    parameters: Vec<Tensor>,
    /// SGD: the momentum buffer; Adam: the first moment.
    first: Vec<Tensor>,
    /// Adam's second moment.
    second: Vec<Tensor>,
    /// One buffer each for parameters and moments, if the parameters are views of one buffer.
    packed: Option<Packed>,
    steps: i32,
}

/// Holds the buffers of parameters and moments, of which the optimiser's other tensors are views.
#[derive(Debug)]
struct Packed {
    layout: Layout,
    parameters: Tensor,
    first: Tensor,
    /// Empty if the optimiser has no second moment.
    second: Tensor,
}

impl Packed {
    /// Returns buffers with zero moments, and `None` when the parameters are not in one buffer.
    fn of(parameters: &[Tensor], kind: &OptimizerKind) -> Option<Self> {
        let layout = Layout::of(parameters)?;
        let buffer = layout.buffer_of(parameters)?;
        Some(Self {
            first: layout.zeros(&buffer),
            second: match kind {
                OptimizerKind::Sgd(_) => Tensor::new(),
                OptimizerKind::Adam(_) => layout.zeros(&buffer),
            },
            parameters: buffer,
            layout,
        })
    }
}

impl Optimizer {
    /// Returns an optimiser of `parameters`, leaves that require gradients, with zero moments.
    pub fn new(settings: &OptimizerSettings, parameters: Vec<Tensor>) -> Self {
        let packed = Packed::of(&parameters, &settings.kind);
        let zeros = |pick: fn(&Packed) -> &Tensor| match &packed {
            Some(packed) => packed.layout.views(pick(packed)),
            None => parameters.iter().map(|p| p.detach().zeros_like()).collect(),
        };
        let first = zeros(|packed| &packed.first);
        let second = match settings.kind {
            OptimizerKind::Sgd(_) => Vec::new(),
            OptimizerKind::Adam(_) => zeros(|packed| &packed.second),
        };
        Self {
            settings: settings.clone(),
            parameters,
            first,
            second,
            packed,
            steps: 0,
        }
    }

    /// Moves the parameters against `gradients`, one of each parameter's shape, at learning rate
    /// `lr`. They may come from elsewhere: a sum over ranks, or the updates of federated clients.
    pub fn apply(&mut self, gradients: &[Tensor], lr: f64) {
        if let Some(limit) = self.settings.clip_norm {
            return self.move_by(&clipped(gradients, limit), lr);
        }
        self.move_by(gradients, lr);
    }

    /// Moves the parameters against `gradients` as they are.
    fn move_by(&mut self, gradients: &[Tensor], lr: f64) {
        self.steps += 1;
        if let Some(mut packed) = self.packed.take() {
            let gradient = packed.layout.concatenate(gradients, &self.parameters);
            let Packed {
                parameters,
                first,
                second,
                ..
            } = &mut packed;
            self.step_one(parameters, &gradient, first, Some(second), lr);
            self.packed = Some(packed);
            return;
        }
        for (index, gradient) in gradients.iter().enumerate() {
            let mut parameter = self.parameters[index].shallow_clone();
            let mut first = self.first[index].shallow_clone();
            let mut second = self.second.get(index).map(Tensor::shallow_clone);
            self.step_one(&mut parameter, gradient, &mut first, second.as_mut(), lr);
        }
    }

    /// Returns the moments by name, `first.0`, `first.1`, …, as views that follow the optimiser.
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

    /// Returns the number of steps that were taken.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// Returns the state of a run at `at` that trains `model` with this optimiser: `model.*` and
    /// the moments, as views, and the number of steps.
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

    /// Continues from `state`.
    ///
    /// # Errors
    /// Fails when its moments do not have the shapes of the parameters.
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

    /// Takes a step of one tensor, with the moments that the update rule has.
    fn step_one(
        &self,
        parameter: &mut Tensor,
        gradient: &Tensor,
        first: &mut Tensor,
        second: Option<&mut Tensor>,
        lr: f64,
    ) {
        let weight_decay = self.settings.weight_decay;
        match (&self.settings.kind, second) {
            (OptimizerKind::Adam(adam), Some(second)) => {
                let rule = Adam {
                    lr,
                    betas: adam.betas,
                    eps: adam.eps,
                    weight_decay,
                };
                rule.step(parameter, gradient, [first, second], self.steps);
            }
            (OptimizerKind::Sgd(sgd), _) => {
                let rule = Sgd {
                    lr,
                    momentum: sgd.momentum,
                    nesterov: sgd.nesterov,
                    weight_decay,
                };
                rule.step(parameter, gradient, first);
            }
            (OptimizerKind::Adam(_), None) => unreachable!("Adam is made with a second moment"),
        }
    }
}

/// Scales `gradients` so that their joint Euclidean norm is `limit` at most, as PyTorch's
/// `clip_grad_norm_` does; nothing is read back from the device.
fn clipped(gradients: &[Tensor], limit: f64) -> Vec<Tensor> {
    no_grad(|| {
        let norms: Vec<Tensor> = gradients.iter().map(Tensor::norm).collect();
        let factor = (Tensor::stack(&norms, 0).norm() + 1e-6).reciprocal() * limit;
        let factor = factor.clamp_max(1.0);
        gradients
            .iter()
            .map(|gradient| gradient * &factor)
            .collect()
    })
}
