//! Accuracy on a set, as a confusion matrix that every other figure follows from.

use crate::data::{ImageSet, Normalisation};
use crate::error::Result;
use crate::runtime::interrupt;
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

/// Counts of predictions: `confusion[truth][prediction]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    pub confusion: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Share of images whose class was predicted, 0..1; `None` without images.
    pub fn accuracy(&self) -> Option<f64> {
        let correct: u64 = self
            .confusion
            .iter()
            .enumerate()
            .map(|(class, row)| row[class])
            .sum();
        let total: u64 = self.confusion.iter().flatten().sum();
        (total > 0).then(|| correct as f64 / total as f64)
    }

    /// The same for each class; `None` for a class without images.
    pub fn per_class(&self) -> Vec<Option<f64>> {
        let class = |(class, row): (usize, &Vec<u64>)| {
            let total: u64 = row.iter().sum();
            (total > 0).then(|| row[class] as f64 / total as f64)
        };
        self.confusion.iter().enumerate().map(class).collect()
    }
}

/// Evaluates `predict` (normalised images [N,C,H,W] to scores [N, classes]) on `set`, `batch_size`
/// images at a time.
///
/// # Errors
/// What libtorch and `predict` report; Ctrl-C.
pub fn evaluate(
    predict: &dyn Fn(&Tensor) -> Result<Tensor>,
    set: &ImageSet,
    normalisation: &Normalisation,
    classes: usize,
    batch_size: usize,
) -> Result<Evaluation> {
    no_grad(|| {
        let classes = classes as i64;
        let mut counts = Tensor::zeros([classes * classes], (Kind::Int64, set.images.device()));
        let total = set.len() as i64;
        let mut start = 0;
        while start < total {
            interrupt::check()?;
            let count = (batch_size as i64).min(total - start);
            let scores = predict(&normalisation.apply(&set.images.narrow(0, start, count)))?;
            let cells = set.labels.narrow(0, start, count) * classes + scores.argmax(1, false);
            // Unlike `bincount`, which asks the device for the largest value.
            let _ = counts.f_index_add_(0, &cells, &cells.ones_like())?;
            start += count;
        }
        let counts: Vec<i64> = Vec::try_from(&counts)?;
        let rows = counts
            .chunks(classes as usize)
            .map(|row| row.iter().map(|&n| n as u64).collect());
        Ok(Evaluation {
            confusion: rows.collect(),
        })
    })
}
