//! Computes a generator's loss: joins the terms over teachers and student. Called by
//! [`Training`](super::Training).

use super::losses::{activation, cross_entropy, divergence, information};
use super::settings::GeneratorLoss;
use crate::error::Result;
use crate::inversion::objective::{Terms, observe_features};
use crate::inversion::{Derivation, Ensemble, Origin, Teacher};
use crate::model::{Model, Pass};
use tch::{Kind, Tensor};

/// Holds what a generator is trained against.
#[derive(Debug)]
pub struct GeneratorObjective<'a> {
    /// The teachers, all of which see every image.
    pub teachers: &'a [&'a Teacher],
    /// The rule that combines their predictions.
    pub ensemble: &'a Ensemble,
    /// The scales of the terms.
    pub loss: &'a GeneratorLoss,
    /// The student whose divergence is maximised, if any.
    pub student: Option<&'a Model>,
}

impl GeneratorObjective<'_> {
    /// Returns the loss of images f32 `[N,C,H,W]`, normalised, for `labels` i64 `[N]`, or for those
    /// that the teachers jointly predict, and the gradient of its total with respect to the images.
    ///
    /// # Errors
    /// Fails when a teacher cannot be read, or libtorch fails.
    pub fn differentiate(
        &self,
        images: &Tensor,
        labels: Option<&Tensor>,
    ) -> Result<(Terms, Tensor)> {
        let mut derivation = Derivation::of(images);
        let terms = self.terms(&mut derivation, labels)?;
        let gradient = derivation.gradient(&terms.total)?;
        Ok((terms, gradient))
    }

    fn terms(&self, derivation: &mut Derivation, labels: Option<&Tensor>) -> Result<Terms> {
        let (loss, images) = (self.loss, derivation.images.shallow_clone());
        let zero = || Tensor::zeros([], (Kind::Float, images.device()));
        let (mut logits, mut distances, mut activations) = (Vec::new(), zero(), zero());
        let count = self.teachers.len() as f64;
        for teacher in self.teachers {
            let teacher = teacher.loaded()?;
            // A stack has no batch norm, and its passes do not tell the features.
            if loss.activation == 0.0 && (loss.batch_norm == 0.0 || teacher.stack().is_some()) {
                logits.push(derivation.teacher(&teacher));
                continue;
            }
            // The fused passes do not tell the features either.
            if loss.activation == 0.0
                && let Some((seen, distance)) =
                    derivation.observed(&teacher, loss.batch_norm / count)
            {
                logits.push(seen);
                distances += distance;
                continue;
            }
            let model = &teacher.model;
            let (features, layers) = derivation.graph(|images| match loss.batch_norm == 0.0 {
                true => (model.features(images, &mut Pass::Eval), Vec::new()),
                false => observe_features(model, images),
            });
            logits.push(model.classify(&features));
            distances = layers.into_iter().fold(distances, |sum, layer| sum + layer);
            if loss.activation != 0.0 {
                activations += activation(&features);
            }
        }
        let (distances, activations) = (distances / count, activations / count);
        let joint = |temperature: f64| {
            let origin = labels.map(|labels| Origin {
                labels,
                teachers: None,
            });
            self.ensemble
                .log_probabilities(&logits, temperature, origin)
        };
        let plain = joint(1.0);
        let predicted = || plain.detach().argmax(1, false);
        let targets = labels.map_or_else(predicted, Tensor::shallow_clone);
        let entropy = cross_entropy(&plain, &targets, loss.hardness);
        let student = self.student.filter(|_| loss.divergence != 0.0);
        let apart = student.map(|student| {
            let at = loss.temperature;
            let softened = if at == 1.0 {
                plain.shallow_clone()
            } else {
                joint(at)
            };
            divergence(&softened, &derivation.model(student), at, loss.disagreeing)
        });
        let spread = (loss.information != 0.0).then(|| information(&plain));
        let mut total = &entropy * loss.cross_entropy + &distances * loss.batch_norm
            - &activations * loss.activation;
        for (term, scale) in [(&apart, loss.divergence), (&spread, loss.information)] {
            if let Some(term) = term {
                total -= term * scale;
            }
        }
        Ok(Terms {
            total,
            cross_entropy: entropy,
            l2: zero(),
            total_variation: zero(),
            batch_norm: distances,
            jensen_shannon: None,
            entropy: None,
            rival: None,
            divergence: apart,
            activation: (loss.activation != 0.0).then_some(activations),
            information: spread,
        })
    }
}
