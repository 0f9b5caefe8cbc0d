//! Computes the inversion loss of a batch. [`Loss`] combines the logits of all networks into terms
//! and a total, however the logits were computed; [`inversion_loss`] computes them with autograd,
//! by one forward pass through each teacher (and the student). Called by both engines.

use super::ensemble::{Ensemble, Origin};
use super::losses::{
    cross_entropy, entropy, feature_distance, jensen_shannon, norm, rival, total_variation,
};
use super::settings::{LossScales, OtherScales};
use super::teacher::{LabelMask, Teacher};
use crate::error::Result;
use crate::model::{Model, Pass};
use tch::{Kind, Tensor};

/// Holds a batch's loss terms before scaling: scalars on the device. `total` has its graph where
/// autograd computed it.
#[derive(Debug)]
pub struct Terms {
    /// Scaled sum of all terms.
    pub total: Tensor,
    /// Cross-entropy of the teachers' predictions with the labels.
    pub cross_entropy: Tensor,
    /// Euclidean norm of the batch.
    pub l2: Tensor,
    /// Total variation of the batch.
    pub total_variation: Tensor,
    /// Distance of the batch-norm statistics, the mean over teachers.
    pub batch_norm: Tensor,
    /// Jensen-Shannon divergence of teachers and student, if a student competes.
    pub jensen_shannon: Option<Tensor>,
    /// Mean entropy of the other teachers, if it has a scale.
    pub entropy: Option<Tensor>,
    /// Mean highest wrong score of the other teachers, if it has a scale.
    pub rival: Option<Tensor>,
    /// Divergence of the student from the teachers, if a generator maximises it.
    pub divergence: Option<Tensor>,
    /// Mean absolute activation of the teachers, if a generator maximises it.
    pub activation: Option<Tensor>,
    /// Entropy of the teachers' mean prediction, if a generator maximises it.
    pub information: Option<Tensor>,
}

/// Counts the terms.
pub const TERMS: usize = 11;

impl Terms {
    /// Returns all terms in one order; `None` for one that is not in use.
    pub fn row(&self) -> [Option<&Tensor>; TERMS] {
        [
            Some(&self.total),
            Some(&self.cross_entropy),
            Some(&self.l2),
            Some(&self.total_variation),
            Some(&self.batch_norm),
            self.jensen_shannon.as_ref(),
            self.entropy.as_ref(),
            self.rival.as_ref(),
            self.divergence.as_ref(),
            self.activation.as_ref(),
            self.information.as_ref(),
        ]
    }
}

/// Selects how the chosen teachers' predictions are combined into one loss.
#[derive(Clone, Copy, Debug)]
pub enum Combination<'a> {
    /// Takes the mean of the teachers' losses, each under its own mask.
    Separate(&'a [Option<LabelMask>]),
    /// Does the same as `Separate`, and adds terms of the predictions of the teachers that were not
    /// chosen, which takes one more forward and input-gradient pass for each of them.
    WithOthers(&'a [Option<LabelMask>], OtherScales),
    /// Takes the loss of the ensemble's prediction, and the mean of the batch-norm terms.
    Ensemble(&'a Ensemble),
}

/// Returns the logits f32 `[N,classes]` of a teacher in evaluation mode for images `[N,C,H,W]`, and
/// each batch-norm layer's distance, in module order.
pub fn observe(teacher: &Model, images: &Tensor) -> (Tensor, Vec<Tensor>) {
    let (features, distances) = observe_features(teacher, images);
    (teacher.classify(&features), distances)
}

/// Does the same as [`observe`], but returns the input of the last linear layer, f32 `[N,F]`.
pub(crate) fn observe_features(teacher: &Model, images: &Tensor) -> (Tensor, Vec<Tensor>) {
    let mut distances = Vec::new();
    let features = teacher.features(
        images,
        &mut Pass::Observe(&mut |layer, input| distances.push(feature_distance(layer, input))),
    );
    (features, distances)
}

/// Holds how predictions are combined and scaled; the same at every step of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Loss<'a> {
    /// How the teachers' predictions are combined.
    pub combination: Combination<'a>,
    /// Scales of the published terms.
    pub scales: &'a LossScales,
}

/// Holds the logits f32 `[N,classes]` of every network that a batch is optimised against.
#[derive(Debug)]
pub struct Logits {
    /// Logits of the teachers that the batch is made from.
    pub chosen: Vec<Tensor>,
    /// Logits of the teachers that [`Loss::others`] returns.
    pub others: Vec<Tensor>,
    /// Logits of the student, if [`Loss::competes`].
    pub student: Option<Tensor>,
}

/// Holds the terms that depend on logits alone; scalars with their graph.
#[derive(Debug)]
pub struct LogitTerms {
    /// Cross-entropy of the teachers' predictions with the labels.
    pub cross_entropy: Tensor,
    /// Jensen-Shannon divergence of teachers and student.
    pub jensen_shannon: Option<Tensor>,
    /// Mean entropy of the other teachers.
    pub entropy: Option<Tensor>,
    /// Mean highest wrong score of the other teachers.
    pub rival: Option<Tensor>,
    /// Their scaled sum.
    pub total: Tensor,
}

impl Loss<'_> {
    /// Returns `true` when the student's logits are part of the loss.
    pub fn competes(&self) -> bool {
        self.scales.comp_scale != 0.0
    }

    /// Returns the teachers (indices below `count`) whose predictions are part of the loss of a
    /// batch made from `chosen`, besides those.
    pub fn others(&self, count: usize, chosen: &[usize]) -> Vec<usize> {
        match self.combination {
            Combination::WithOthers(..) => {
                (0..count).filter(|index| !chosen.contains(index)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the terms of `logits` for `labels` i64 `[N]`.
    pub fn logit_terms(
        &self,
        logits: &Logits,
        labels: &Tensor,
        chosen: &[usize],
        others: &[usize],
    ) -> LogitTerms {
        let student = logits.student.as_ref();
        let (cross_entropy, jensen_shannon) = match self.combination {
            Combination::Separate(masks) | Combination::WithOthers(masks, _) => {
                separate_terms(&logits.chosen, labels, chosen, masks, student)
            }
            Combination::Ensemble(ensemble) => {
                ensemble_terms(&logits.chosen, labels, ensemble, student)
            }
        };
        let (entropy, rival, scales) = match self.combination {
            Combination::WithOthers(masks, scales) => {
                let (entropy, rival) =
                    other_terms(&logits.others, labels, chosen, others, masks, &scales);
                (entropy, rival, scales)
            }
            _ => (None, None, OtherScales::default()),
        };
        let scaled = |term: &Option<Tensor>, scale: f64| term.as_ref().map(|term| term * scale);
        let competition = jensen_shannon
            .as_ref()
            .map(|divergence| (1.0 - divergence) * self.scales.comp_scale);
        let added = [
            competition,
            scaled(&entropy, scales.entropy_scale),
            scaled(&rival, scales.rival_scale),
        ];
        let alone = cross_entropy.shallow_clone();
        LogitTerms {
            total: added
                .into_iter()
                .flatten()
                .fold(alone, |total, term| total + term),
            cross_entropy,
            jensen_shannon,
            entropy,
            rival,
        }
    }

    /// Returns all terms: those of the logits, and the images' norm, total variation and batch-norm
    /// distance (scalars).
    pub fn terms(
        &self,
        logit_terms: LogitTerms,
        l2: Tensor,
        total_variation: Tensor,
        batch_norm: Tensor,
    ) -> Terms {
        let scales = self.scales;
        let images = &l2 * scales.l2_scale
            + &total_variation * scales.var_scale
            + &batch_norm * scales.bn_scale;
        Terms {
            total: logit_terms.total + images,
            cross_entropy: logit_terms.cross_entropy,
            l2,
            total_variation,
            batch_norm,
            jensen_shannon: logit_terms.jensen_shannon,
            entropy: logit_terms.entropy,
            rival: logit_terms.rival,
            divergence: None,
            activation: None,
            information: None,
        }
    }
}

/// Returns the loss of images f32 `[N,C,H,W]`, normalised, for `labels` i64 `[N]`, against the
/// teachers `chosen` (indices) and an optional student, with its graph.
///
/// # Errors
/// Fails when a teacher cannot be read.
pub fn inversion_loss(
    images: &Tensor,
    labels: &Tensor,
    teachers: &[&Teacher],
    chosen: &[usize],
    loss: Loss,
    student: Option<&Model>,
) -> Result<Terms> {
    let (mut distances, mut seen) = (Vec::new(), Vec::new());
    for &index in chosen {
        let (logits, layers) = observe(&teachers[index].loaded()?.model, images);
        distances.push(sum_of(layers, images));
        seen.push(logits);
    }
    let others = loss.others(teachers.len(), chosen);
    let eval = |index: &usize| Ok(teachers[*index].loaded()?.model.eval(images));
    let logits = Logits {
        chosen: seen,
        others: others.iter().map(eval).collect::<Result<_>>()?,
        student: student
            .filter(|_| loss.competes())
            .map(|student| student.eval(images)),
    };
    let logit_terms = loss.logit_terms(&logits, labels, chosen, &others);
    let batch_norm = mean_of(distances, images);
    Ok(loss.terms(
        logit_terms,
        norm(images),
        total_variation(images),
        batch_norm,
    ))
}

/// Holds a cross-entropy, and the Jensen-Shannon divergence if a student competes.
type CrossEntropyAndDivergence = (Tensor, Option<Tensor>);

/// Returns the means of the terms of each teacher under its own mask.
fn separate_terms(
    logits: &[Tensor],
    labels: &Tensor,
    chosen: &[usize],
    masks: &[Option<LabelMask>],
    student: Option<&Tensor>,
) -> CrossEntropyAndDivergence {
    let mut entropies = Vec::new();
    let mut divergences = Vec::new();
    for (logits, &index) in logits.iter().zip(chosen) {
        let mask = masks[index].as_ref();
        entropies.push(cross_entropy(logits, labels, mask));
        if let Some(student) = student {
            divergences.push(match mask {
                Some(mask) => jensen_shannon(&mask.columns(logits), &mask.columns(student)),
                None => jensen_shannon(logits, student),
            });
        }
    }
    let divergence = student.map(|student| mean_of(divergences, student));
    (mean_of(entropies, labels), divergence)
}

/// Returns the terms of the ensemble's prediction.
fn ensemble_terms(
    logits: &[Tensor],
    labels: &Tensor,
    ensemble: &Ensemble,
    student: Option<&Tensor>,
) -> CrossEntropyAndDivergence {
    let origin = Origin {
        labels,
        teachers: None,
    };
    let log_probabilities = ensemble.log_probabilities(logits, 1.0, Some(origin));
    // Log-probabilities are logits of the same distribution.
    let divergence = student.map(|student| jensen_shannon(&log_probabilities, student));
    (log_probabilities.nll_loss(labels), divergence)
}

/// Returns the entropy and rival terms, each only if it has a scale, averaged over the teachers
/// `others` (indices), whose logits are given.
fn other_terms(
    logits: &[Tensor],
    labels: &Tensor,
    chosen: &[usize],
    others: &[usize],
    masks: &[Option<LabelMask>],
    scales: &OtherScales,
) -> (Option<Tensor>, Option<Tensor>) {
    let (mut entropies, mut rivals) = (Vec::new(), Vec::new());
    for (logits, &index) in logits.iter().zip(others) {
        if scales.entropy_scale != 0.0 {
            // Over the classes of each teacher the batch is made from.
            entropies.extend(
                chosen
                    .iter()
                    .map(|&own| entropy(logits, masks[own].as_ref())),
            );
        }
        if scales.rival_scale != 0.0 {
            rivals.push(rival(logits, labels, masks[index].as_ref()));
        }
    }
    let mean = |terms: Vec<Tensor>| (!terms.is_empty()).then(|| mean_of(terms, labels));
    (mean(entropies), mean(rivals))
}

/// Adds scalars; without any, returns zero on the device of `like`.
fn sum_of(terms: Vec<Tensor>, like: &Tensor) -> Tensor {
    match terms.is_empty() {
        // A teacher without batch norm.
        true => Tensor::zeros([], (Kind::Float, like.device())),
        false => Tensor::stack(&terms, 0).sum(Kind::Float),
    }
}

/// Returns the mean of scalars; without any, zero on the device of `like`.
fn mean_of(terms: Vec<Tensor>, like: &Tensor) -> Tensor {
    let count = terms.len().max(1) as f64;
    sum_of(terms, like) / count
}
