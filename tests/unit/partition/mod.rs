//! Partitioners: what every one promises, what each is for, and all of them through the real
//! binary.

mod every;
mod laws;
mod shapes;
mod uniform_share;

use fed_distill::Result;
use fed_distill::partition::{Partitioner, Split, label_counts};
use fed_distill::runtime::seed::Seeds;
use std::collections::BTreeSet;

fn deal(
    partitioner: &dyn Partitioner,
    train: &[i64],
    test: &[i64],
    classes: usize,
    seed: u64,
) -> Result<Split> {
    let mut rng = Seeds::new(seed).stream("split", 0);
    Split::new(partitioner, train, test, classes, &mut rng)
}

/// `counts[node][class]` of a deal of training images that must succeed.
fn counts(
    partitioner: &dyn Partitioner,
    train: &[i64],
    classes: usize,
    seed: u64,
) -> Vec<Vec<u64>> {
    let split = deal(partitioner, train, &[], classes, seed).unwrap();
    let parts = split.nodes.iter();
    parts
        .map(|part| label_counts(&part.train, train, classes))
        .collect()
}

/// `per` images of each class, interleaved.
fn balanced(classes: usize, per: usize) -> Vec<i64> {
    (0..classes * per)
        .map(|image| (image % classes) as i64)
        .collect()
}

fn classes_of(indices: &[usize], labels: &[i64]) -> BTreeSet<i64> {
    indices.iter().map(|&index| labels[index]).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let middle = mean(values);
    mean(
        &values
            .iter()
            .map(|x| (x - middle).powi(2))
            .collect::<Vec<_>>(),
    )
}
