//! The inversion loss of a batch: one forward pass through each teacher (and the student), every term, the total.

use super::ensemble::Ensemble;
use super::losses::{cross_entropy, entropy, feature_distance, jensen_shannon, norm, rival, total_variation};
use super::settings::{LossScales, OtherScales};
use super::teacher::{LabelMask, Teacher};
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
    /// As `Each`, and terms of what the teachers that were not chosen see in the images: one more forward and input-gradient pass for
    /// each of them.
    Among(&'a [Option<LabelMask>], OtherScales),
    /// One prediction of all; the mean of the batch-norm terms.
    Joint(&'a Ensemble),
}

/// Logits [N, classes] of a teacher in evaluation mode, and each batch-norm layer's distance, in module order.
pub fn observe(teacher: &Model, images: &Tensor) -> (Tensor, Vec<Tensor>) {
    let mut distances = Vec::new();
    let logits = teacher.forward(
        images,
        &mut Pass::Observe(&mut |layer, input| distances.push(feature_distance(layer, input))),
    );
    (logits, distances)
}

/// The loss of normalised images [N,C,H,W] made for `labels` i64 [N], against the teachers `chosen` (indices) and an optional student.
pub fn inversion_loss(
    images: &Tensor,
    labels: &Tensor,
    teachers: &[&Teacher],
    chosen: &[usize],
    opinion: Opinion,
    student: Option<&Model>,
    scales: &LossScales,
) -> Terms {
    let seen: Vec<(Tensor, Tensor)> = chosen
        .iter()
        .map(|&index| {
            let (logits, distances) = observe(&teachers[index].model, images);
            (logits, total_of(distances, images))
        })
        .collect();
    let student = student
        .filter(|_| scales.comp_scale != 0.0)
        .map(|student| student.eval(images));
    let (cross_entropy, jensen_shannon) = match opinion {
        Opinion::Each(masks) | Opinion::Among(masks, _) => each(&seen, labels, chosen, masks, student.as_ref()),
        Opinion::Joint(ensemble) => joint(&seen, labels, ensemble, student.as_ref()),
    };
    let batch_norm = mean_of(seen.into_iter().map(|(_, distance)| distance).collect(), images);
    let (l2, total_variation) = (norm(images), total_variation(images));
    let competition = jensen_shannon
        .as_ref()
        .map(|divergence| (1.0 - divergence) * scales.comp_scale);
    let alone =
        &cross_entropy + &l2 * scales.l2_scale + &total_variation * scales.var_scale + &batch_norm * scales.bn_scale;
    let (entropy, rival, others) = match opinion {
        Opinion::Among(masks, scales) => {
            let (entropy, rival) = others(images, labels, teachers, chosen, masks, &scales);
            (entropy, rival, scales)
        }
        _ => (None, None, OtherScales::default()),
    };
    let scaled = |term: &Option<Tensor>, scale: f64| term.as_ref().map(|term| term * scale);
    let added = [
        competition,
        scaled(&entropy, others.entropy_scale),
        scaled(&rival, others.rival_scale),
    ];
    let total = added.into_iter().flatten().fold(alone, |total, term| total + term);
    Terms {
        total,
        cross_entropy,
        l2,
        total_variation,
        batch_norm,
        jensen_shannon,
        entropy,
        rival,
    }
}

type Opinions = (Tensor, Option<Tensor>);

fn each(
    seen: &[(Tensor, Tensor)],
    labels: &Tensor,
    chosen: &[usize],
    masks: &[Option<LabelMask>],
    student: Option<&Tensor>,
) -> Opinions {
    let mut entropies = Vec::new();
    let mut divergences = Vec::new();
    for ((logits, _), &index) in seen.iter().zip(chosen) {
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

fn joint(seen: &[(Tensor, Tensor)], labels: &Tensor, ensemble: &Ensemble, student: Option<&Tensor>) -> Opinions {
    let logits: Vec<Tensor> = seen.iter().map(|(logits, _)| logits.shallow_clone()).collect();
    let log_probabilities = ensemble.log_probabilities(&logits, 1.0);
    // Log-probabilities are logits of the same distribution.
    let divergence = student.map(|student| jensen_shannon(&log_probabilities, student));
    (log_probabilities.nll_loss(labels), divergence)
}

/// Entropy and rival terms, averaged over the teachers that were not chosen; each only where it has a scale.
fn others(
    images: &Tensor,
    labels: &Tensor,
    teachers: &[&Teacher],
    chosen: &[usize],
    masks: &[Option<LabelMask>],
    scales: &OtherScales,
) -> (Option<Tensor>, Option<Tensor>) {
    let (mut entropies, mut rivals) = (Vec::new(), Vec::new());
    for index in (0..teachers.len()).filter(|index| !chosen.contains(index)) {
        let logits = teachers[index].model.eval(images);
        if scales.entropy_scale != 0.0 {
            // Over the classes of each teacher the batch is made from.
            entropies.extend(chosen.iter().map(|&own| entropy(&logits, masks[own].as_ref())));
        }
        if scales.rival_scale != 0.0 {
            rivals.push(rival(&logits, labels, masks[index].as_ref()));
        }
    }
    let mean = |terms: Vec<Tensor>| (!terms.is_empty()).then(|| mean_of(terms, images));
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
