//! Draws the labels that a synthetic batch is made for. Called by [`Inverter`](super::Inverter) and
//! [`GeneratorSynthesizer`](crate::generator::GeneratorSynthesizer).

use super::settings::LabelSampling;
use super::teacher::Teacher;
use crate::runtime::seed::Rng;
use rand::Rng as _;
use rand::seq::SliceRandom;
use rand_distr::Distribution;
use rand_distr::weighted::WeightedIndex;
use std::collections::BTreeSet;

/// Draws `count` labels among `classes`.
///
/// `shares` are the numbers of images of the classes that the teachers were trained on, and
/// `weights` the configured ones, whose sum is finite, both in the order of `classes`. If all
/// weights are zero, labels are drawn uniformly.
///
/// ```
/// use fed_distill::inversion::{LabelSampling, draw_labels};
/// use fed_distill::runtime::seed::Seeds;
///
/// let mut rng = Seeds::new(42).stream("labels", 0);
/// let mut labels =
///     draw_labels(LabelSampling::Balanced, 4, &[3, 7], &[1.0, 1.0], &[1.0, 1.0], &mut rng);
/// labels.sort();
/// assert_eq!(labels, [3, 3, 7, 7]);
/// ```
pub fn draw_labels(
    sampling: LabelSampling,
    count: usize,
    classes: &[i64],
    shares: &[f64],
    weights: &[f64],
    rng: &mut Rng,
) -> Vec<i64> {
    let weighted = |weights: &[f64], rng: &mut Rng| match WeightedIndex::new(weights) {
        Ok(index) => (0..count).map(|_| classes[index.sample(rng)]).collect(),
        Err(_) => uniform(count, classes, rng),
    };
    match sampling {
        LabelSampling::Random => uniform(count, classes, rng),
        LabelSampling::Weighted => weighted(weights, rng),
        LabelSampling::TeacherShare => weighted(shares, rng),
        LabelSampling::Balanced => {
            let mut order = classes.to_vec();
            // Which classes come once more when the batch does not divide evenly is random too.
            order.shuffle(rng);
            let mut labels: Vec<i64> = order.into_iter().cycle().take(count).collect();
            labels.shuffle(rng);
            labels
        }
    }
}

/// Returns the classes, ascending, and of each how many images `teachers` were trained on together:
/// of those that some have seen, or of `all`.
pub(crate) fn class_counts(teachers: &[&Teacher], all: bool) -> (Vec<i64>, Vec<f64>) {
    let classes = teachers.first().map_or(0, |teacher| teacher.spec.classes);
    let seen: BTreeSet<i64> = teachers.iter().flat_map(|teacher| teacher.seen()).collect();
    let images = |class: i64| -> u64 {
        let counts = teachers.iter();
        counts
            .map(|teacher| teacher.label_counts[class as usize])
            .sum()
    };
    let counted = (0..classes).map(|class| (class, images(class)));
    let kept = counted.filter(|(class, _)| all || seen.contains(class));
    kept.map(|(class, images)| (class, images as f64)).unzip()
}

/// Draws `count` labels uniformly.
fn uniform(count: usize, classes: &[i64], rng: &mut Rng) -> Vec<i64> {
    (0..count)
        .map(|_| classes[rng.random_range(0..classes.len())])
        .collect()
}
