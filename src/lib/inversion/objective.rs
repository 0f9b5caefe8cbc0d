//! The inversion loss of a batch. [`Loss`] joins what networks say of it into terms and a total,
//! however their logits were computed; [`inversion_loss`] computes them with autograd: one forward
//! pass through each teacher (and the student).

use super::ensemble::Ensemble;
use super::losses::{
    cross_entropy, entropy, feature_distance, jensen_shannon, norm, rival, total_variation,
};
use super::settings::{LossScales, OtherScales};
use super::teacher::{LabelMask, Teacher};
use crate::error::Result;
use crate::model::{Model, Pass};
use tch::{Kind, Tensor};

/// A batch's loss terms before scaling: scalars on the device, `total` with its graph.
#[derive(Debug)]
pub struct Terms {
    pub total: Tensor,
    pub cross_entropy: Tensor,
    pub l2: Tensor,
    pub total_variation: Tensor,
    pub batch_norm: Tensor,
    /// Only where a student competes.
    pub jensen_shannon: Option<Tensor>,
    /// Mean entropy of the other teachers; only where it has a scale.
    pub entropy: Option<Tensor>,
    /// Mean highest wrong score of the other teachers; only where it has a scale.
    pub rival: Option<Tensor>,
}

/// How the chosen teachers' opinions are joined.
#[derive(Clone, Copy, Debug)]
pub enum Opinion<'a> {
    /// Each teacher its own loss under its own mask; the mean of the losses.
    Each(&'a [Option<LabelMask>]),
    /// As `Each`, and terms of what the teachers that were not chosen see in the images: one more
    /// forward and input-gradient pass for each of them.
    Among(&'a [Option<LabelMask>], OtherScales),
    /// One prediction of all; the mean of the batch-norm terms.
    Joint(&'a Ensemble),
}

/// Logits [N, classes] of a teacher in evaluation mode, and each batch-norm layer's distance, in
/// module order.
pub fn observe(teacher: &Model, images: &Tensor) -> (Tensor, Vec<Tensor>) {
    let mut distances = Vec::new();
    let logits = teacher.forward(
        images,
        &mut Pass::Observe(&mut |layer, input| distances.push(feature_distance(layer, input))),
    );
    (logits, distances)
}

/// What a batch is held to, the same at every step.
#[derive(Clone, Copy, Debug)]
pub struct Loss<'a> {
    pub opinion: Opinion<'a>,
    pub scales: &'a LossScales,
}

/// Logits [N, classes] of every network that has a say in a batch.
#[derive(Debug)]
pub struct Logits {
    /// Of the teachers the batch is made from.
    pub chosen: Vec<Tensor>,
    /// Of the teachers [`Loss::others`] names.
    pub others: Vec<Tensor>,
    /// Of the student, where [`Loss::competes`].
    pub student: Option<Tensor>,
}

/// The terms that logits alone decide; scalars with their graph.
#[derive(Debug)]
pub struct Opinions {
    pub cross_entropy: Tensor,
    pub jensen_shannon: Option<Tensor>,
    pub entropy: Option<Tensor>,
    pub rival: Option<Tensor>,
    /// Their sum, scaled.
    pub total: Tensor,
}

impl Loss<'_> {
    /// Whether a student's logits count.
    pub fn competes(&self) -> bool {
        self.scales.comp_scale != 0.0
    }

    /// The teachers (of `count`) that a batch made from `chosen` looks at besides.
    pub fn others(&self, count: usize, chosen: &[usize]) -> Vec<usize> {
        match self.opinion {
            Opinion::Among(..) => (0..count).filter(|index| !chosen.contains(index)).collect(),
            _ => Vec::new(),
        }
    }

    /// The terms of `logits` for `labels` i64 [N].
    pub fn opinions(
        &self,
        logits: &Logits,
        labels: &Tensor,
        chosen: &[usize],
        others: &[usize],
    ) -> Opinions {
        let student = logits.student.as_ref();
        let (cross_entropy, jensen_shannon) = match self.opinion {
            Opinion::Each(masks) | Opinion::Among(masks, _) => {
                each(&logits.chosen, labels, chosen, masks, student)
            }
            Opinion::Joint(ensemble) => joint(&logits.chosen, labels, ensemble, student),
        };
        let (entropy, rival, scales) = match self.opinion {
            Opinion::Among(masks, scales) => {
                let (entropy, rival) =
                    among(&logits.others, labels, chosen, others, masks, &scales);
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
        Opinions {
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

    /// All terms: those of the logits, and the images' norm, total variation and batch-norm
    /// distance (scalars).
    pub fn terms(
        &self,
        opinions: Opinions,
        l2: Tensor,
        total_variation: Tensor,
        batch_norm: Tensor,
    ) -> Terms {
        let scales = self.scales;
        let images = &l2 * scales.l2_scale
            + &total_variation * scales.var_scale
            + &batch_norm * scales.bn_scale;
        Terms {
            total: opinions.total + images,
            cross_entropy: opinions.cross_entropy,
            l2,
            total_variation,
            batch_norm,
            jensen_shannon: opinions.jensen_shannon,
            entropy: opinions.entropy,
            rival: opinions.rival,
        }
    }
}

/// The loss of normalised images [N,C,H,W] made for `labels` i64 [N], against the teachers `chosen`
/// (indices) and an optional student, with its graph.
///
/// # Errors
/// Teachers that cannot be read.
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
        distances.push(total_of(layers, images));
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
    let opinions = loss.opinions(&logits, labels, chosen, &others);
    let batch_norm = mean_of(distances, images);
    Ok(loss.terms(opinions, norm(images), total_variation(images), batch_norm))
}

type Pair = (Tensor, Option<Tensor>);

fn each(
    logits: &[Tensor],
    labels: &Tensor,
    chosen: &[usize],
    masks: &[Option<LabelMask>],
    student: Option<&Tensor>,
) -> Pair {
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

fn joint(
    logits: &[Tensor],
    labels: &Tensor,
    ensemble: &Ensemble,
    student: Option<&Tensor>,
) -> Pair {
    let log_probabilities = ensemble.log_probabilities(logits, 1.0);
    // Log-probabilities are logits of the same distribution.
    let divergence = student.map(|student| jensen_shannon(&log_probabilities, student));
    (log_probabilities.nll_loss(labels), divergence)
}

/// Entropy and rival terms, averaged over the `others` (indices), whose logits are given; each only
/// where it has a scale.
fn among(
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

fn total_of(terms: Vec<Tensor>, like: &Tensor) -> Tensor {
    match terms.is_empty() {
        // A teacher without batch norm.
        true => Tensor::zeros([], (Kind::Float, like.device())),
        false => Tensor::stack(&terms, 0).sum(Kind::Float),
    }
}

fn mean_of(terms: Vec<Tensor>, like: &Tensor) -> Tensor {
    let count = terms.len().max(1) as f64;
    total_of(terms, like) / count
}
