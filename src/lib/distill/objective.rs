//! Defines the distillation loss, whose targets are the teachers' combined predictions instead of
//! the labels that a batch was made for. Called by [`fit`](crate::train::fit).

use super::logits::LogitCache;
use crate::error::Result;
use crate::inversion::{Ensemble, Origin, Teacher, predict};
use crate::train::{Batch, Objective};
use std::cell::RefCell;
use tch::{Kind, Tensor, no_grad};

/// Computes T² · KL(teachers ‖ student), both softened at temperature T (Hinton et al. 2015,
/// arXiv:1503.02531), averaged over the batch. Real images have the cross-entropy with their own
/// labels, at any temperature: T² keeps the gradient of softened predictions as large as that of
/// the cross-entropy, and would make it T times as large where the target is a label. A synthetic
/// image has (1 − λ) of the divergence and λ of the cross-entropy with the label it was made for.
///
/// ```
/// use fed_distill::distill::Distillation;
/// use fed_distill::inversion::{Ensemble, EnsembleKind, Teacher};
/// use fed_distill::model::{Model, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use fed_distill::train::{Batch, Objective};
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> fed_distill::Result<()> {
/// let seeds = Seeds::new(42);
/// let (width, blocks) = (Some(4), Some(vec![1]));
/// let settings = ModelSettings { width, blocks, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 2)?;
/// let model = |i| Model::new(&spec, Device::Cpu, &mut seeds.stream("initialisation", i));
/// let teacher = Teacher::new(model(0)?, vec![5, 3])?;
/// let ensemble = Ensemble::new(EnsembleKind::MeanLogits, &[&teacher], Device::Cpu);
/// let objective = Distillation {
///     teachers: vec![&teacher],
///     ensemble,
///     temperature: 2.0,
///     label_weight: 0.0,
///     class_weights: None,
///     cache: None,
/// };
///
/// let images = Tensor::zeros([3, 1, 8, 8], (Kind::Float, Device::Cpu));
/// let student_logits = model(0)?.eval(&images);
/// let labels = Tensor::from_slice(&[0_i64, 1, 0]);
/// let batch = Batch { images, labels, scores: None, real: None, teachers: None, views: None };
/// // The student has the teacher's weights, so there is nothing to learn.
/// assert!(f64::try_from(&objective.loss(&student_logits, &batch)?)?.abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Distillation<'a> {
    /// The teachers.
    pub teachers: Vec<&'a Teacher>,
    /// The rule that combines their predictions.
    pub ensemble: Ensemble,
    /// T.
    pub temperature: f64,
    /// λ, 0..1.
    pub label_weight: f64,
    /// Weight of each image by its label, f32 `[classes]`; with `None` all are 1.
    pub class_weights: Option<Tensor>,
    /// Keeps the teachers' logits of views of images that come again; it changes no loss.
    pub cache: Option<RefCell<LogitCache>>,
}

impl Objective for Distillation<'_> {
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        let target = no_grad(|| self.target(batch))?;
        let student = (logits / self.temperature).f_log_softmax(1, Kind::Float)?;
        let soft = (&target * (target.clamp_min(1e-12).log() - student)).sum_dim_intlist(
            1i64,
            false,
            Kind::Float,
        );
        let scale = self.temperature * self.temperature;
        let each = match self.label_weights(batch) {
            // The scale is taken out again below.
            Some(hard) => {
                let labelled = cross_entropies(logits, &batch.labels)? / scale;
                soft * (1.0 - &hard) + labelled * hard
            }
            None => soft,
        };
        let mean = match &self.class_weights {
            Some(weights) => {
                let weights = weights.index_select(0, &batch.labels);
                (each * &weights).sum(Kind::Float) / weights.sum(Kind::Float).clamp_min(1e-12)
            }
            None => each.mean(Kind::Float),
        };
        Ok(mean * scale)
    }
}

impl Distillation<'_> {
    /// Returns the teachers' probabilities f32 [N,classes].
    fn target(&self, batch: &Batch) -> Result<Tensor> {
        let origin = Origin {
            labels: &batch.labels,
            teachers: batch.teachers.as_ref(),
        };
        let views = batch.views.as_deref().unwrap_or_default();
        let (teachers, images) = (&self.teachers, &batch.images);
        let needed = self.ensemble.needed(views);
        let logits = match &self.cache {
            Some(cache) if views.iter().any(|view| view.number.is_some()) => {
                let mut cache = cache.borrow_mut();
                cache.logits(teachers, images, views, needed.as_deref())?
            }
            _ => predict(teachers, images, needed.as_deref())?,
        };
        let ensemble = &self.ensemble;
        let joint = ensemble.log_probabilities(&logits, self.temperature, Some(origin));
        Ok(joint.exp())
    }

    /// Returns the share of the label in the loss of each image, f32 [N]; `None` where it is zero.
    fn label_weights(&self, batch: &Batch) -> Option<Tensor> {
        match &batch.real {
            Some(real) => Some((1.0 - real) * self.label_weight + real),
            None if self.label_weight == 0.0 => None,
            None => Some(batch.labels.ones_like().to_kind(Kind::Float) * self.label_weight),
        }
    }
}

/// Returns the cross-entropy of each image, f32 [N].
fn cross_entropies(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let log_probabilities = logits.f_log_softmax(1, Kind::Float)?;
    let own = log_probabilities.f_gather(1, &labels.unsqueeze(1), false)?;
    Ok(-own.squeeze_dim(1))
}
