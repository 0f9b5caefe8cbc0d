//! Moves images in a direction that makes the teachers' joint prediction change most, a random one
//! for each image (Dai et al. 2024, arXiv:2402.15070, eq. 7, after the output diversified sampling
//! of Tashiro et al. 2020, arXiv:2003.06878). Called by [`AdaptiveSource`](super::AdaptiveSource).

use crate::error::Result;
use crate::inversion::{Derivation, Ensemble, Origin, Teacher};
use tch::{Kind, Tensor};

/// The temperature of the joint prediction, that of the authors' code.
const TEMPERATURE: f64 = 4.0;

/// Holds what images are moved by.
#[derive(Debug)]
pub struct Perturbation<'a> {
    /// The teachers.
    pub teachers: Vec<&'a Teacher>,
    /// The rule that combines their predictions.
    pub ensemble: Ensemble,
    /// Change of each pixel, in normalised units.
    pub size: f64,
}

impl Perturbation<'_> {
    /// Returns x + size · sign ∇ₓ (u · p(x)) for images x f32 `[N,C,H,W]`, normalised, where p is
    /// the joint prediction at temperature 4 and u is `directions` f32 `[N,classes]`.
    ///
    /// # Errors
    /// Fails when a teacher cannot be read, or libtorch fails.
    pub fn apply(&self, images: &Tensor, origin: Origin, directions: &Tensor) -> Result<Tensor> {
        let mut derivation = Derivation::of(images);
        let eval = |teacher: &&Teacher| Ok(derivation.teacher(&*teacher.loaded()?));
        let logits: Vec<Tensor> = self.teachers.iter().map(eval).collect::<Result<_>>()?;
        let joint = self
            .ensemble
            .log_probabilities(&logits, TEMPERATURE, Some(origin));
        let along = (joint.exp() * directions).sum(Kind::Float);
        Ok(images + derivation.gradient(&along)?.sign() * self.size)
    }
}
