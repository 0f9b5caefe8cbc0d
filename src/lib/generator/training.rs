//! Takes steps of a generator and its noise. Called by
//! [`GeneratorSynthesizer`](super::GeneratorSynthesizer).

use super::network::Generator;
use super::objective::GeneratorObjective;
use super::settings::GeneratorSettings;
use crate::error::Result;
use crate::inversion::objective::Terms;
use crate::train::{FitState, Optimizer, OptimizerSettings, Position};
use tch::{Kind, Tensor};

/// Holds a generator, and the optimiser of its weights.
#[derive(Debug)]
pub struct Training {
    /// The generator.
    pub generator: Generator,
    settings: OptimizerSettings,
    optimizer: Optimizer,
}

impl Training {
    /// Returns the training of `generator` before its first step.
    pub fn new(generator: Generator, settings: &GeneratorSettings) -> Self {
        let settings = settings.optimizer.clone();
        Self {
            optimizer: Optimizer::new(&settings, generator.parameters()),
            generator,
            settings,
        }
    }

    /// Forgets the optimiser's moments, because the weights are new.
    pub fn restart(&mut self) {
        self.optimizer = Optimizer::new(&self.settings, self.generator.parameters());
    }

    /// Returns the optimiser of a batch's noise f32 `[N,noise]`, a leaf that requires a gradient.
    pub fn of_noise(&self, noise: &Tensor) -> Optimizer {
        let settings = OptimizerSettings {
            clip_norm: None,
            ..self.settings.clone()
        };
        Optimizer::new(&settings, vec![noise.shallow_clone()])
    }

    /// Moves the weights, and the noise if it has an optimiser, against the gradient of the loss of
    /// the images that `view` returns for those generated from `noise`. Returns the terms, and the
    /// images as they were generated, f32 `[N,C,H,W]`, normalised.
    ///
    /// # Errors
    /// Fails when a teacher cannot be read, or libtorch fails.
    pub fn step(
        &mut self,
        noise: &Tensor,
        labels: Option<&Tensor>,
        objective: &GeneratorObjective,
        of_noise: Option<&mut Optimizer>,
        view: impl FnOnce(&Tensor) -> Tensor,
    ) -> Result<(Terms, Tensor)> {
        let images = self.generator.forward(noise);
        let seen = view(&images);
        let (terms, gradient) = objective.differentiate(&seen, labels)?;
        // Its gradient with respect to what the networks saw is `gradient`.
        let product = (&seen * gradient).sum(Kind::Float);
        let mut leaves = self.generator.parameters();
        let weights = leaves.len();
        if of_noise.is_some() {
            leaves.push(noise.shallow_clone());
        }
        let gradients = Tensor::f_run_backward(&[&product], &leaves, false, false)?;
        let rate = self.settings.lr;
        self.optimizer.apply(&gradients[..weights], rate);
        if let Some(of_noise) = of_noise {
            of_noise.apply(&gradients[weights..], rate);
        }
        Ok((terms, images.detach()))
    }

    /// Returns weights and moments, as views that follow the training: `generator.*`, `first.*` and
    /// `second.*`.
    pub fn state(&self) -> FitState {
        let weights = self.generator.state();
        let named = weights.iter().map(|(name, tensor)| {
            let name = format!("generator.{name}");
            (name, tensor.shallow_clone())
        });
        let mut tensors: Vec<(String, Tensor)> = named.collect();
        tensors.extend(self.optimizer.moments());
        let position = Position {
            optimizer_steps: self.optimizer.steps(),
            ..Position::default()
        };
        FitState { position, tensors }
    }

    /// Continues from `state`.
    ///
    /// # Errors
    /// Fails when it does not fit the generator.
    pub fn restore(&mut self, state: &FitState) -> Result<()> {
        self.generator.load_state(&state.part("generator"))?;
        self.optimizer.restore(state)
    }
}
