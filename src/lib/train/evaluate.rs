//! Measures predictions on a set of images, as a confusion matrix from which accuracies follow.
//! Called by the stages and the federated methods.

use crate::data::{ImageSet, Normalisation};
use crate::error::Result;
use crate::runtime::{interrupt, read};
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

/// Holds the counts of predictions on a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of images by `[true class][predicted class]`.
    pub confusion: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Counts the classes `predicted` i64 `[M]` of images with these `labels` i64 `[M]`, both in
    /// 0..`classes`.
    ///
    /// # Errors
    /// Fails when libtorch does.
    pub fn new(labels: &Tensor, predicted: &Tensor, classes: usize) -> Result<Self> {
        let side = classes as i64;
        let mut counts = Tensor::zeros([side * side], (Kind::Int64, labels.device()));
        let cells = labels * side + predicted;
        // Unlike `bincount`, which asks the device for the largest value.
        let _ = counts.f_index_add_(0, &cells, &cells.ones_like())?;
        let counts: Vec<i64> = read(&counts)?;
        let rows = counts
            .chunks(classes)
            .map(|row| row.iter().map(|&n| n as u64).collect());
        Ok(Self {
            confusion: rows.collect(),
        })
    }

    /// Returns the share of images whose class was predicted, 0..1, and `None` without images.
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

    /// Returns the accuracy on the images of each class, and `None` for a class without images.
    pub fn per_class(&self) -> Vec<Option<f64>> {
        let class = |(class, row): (usize, &Vec<u64>)| {
            let total: u64 = row.iter().sum();
            (total > 0).then(|| row[class] as f64 / total as f64)
        };
        self.confusion.iter().enumerate().map(class).collect()
    }
}

/// Evaluates `predict`, which maps normalised images `[N,C,H,W]` to scores `[N,classes]`, on `set`,
/// `batch_size` images at a time.
///
/// # Errors
/// Fails when `predict` or libtorch does, and on Ctrl-C.
///
/// ```
/// use fed_distill::data::{ImageSet, Normalisation};
/// use fed_distill::train::evaluate;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> fed_distill::Result<()> {
/// let images = Tensor::zeros([3, 1, 8, 8], (Kind::Uint8, Device::Cpu));
/// let set = ImageSet::new(images, vec![0, 1, 1])?;
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
/// // A model that always predicts class 1 of two.
/// let predict = |images: &Tensor| {
///     Ok(Tensor::from_slice(&[0_f32, 1.0]).expand([images.size()[0], 2], false))
/// };
/// let evaluation = evaluate(&predict, &set, &normalisation, 2, 256)?;
/// assert_eq!(evaluation.confusion, [[0, 1], [0, 2]]);
/// assert_eq!(evaluation.accuracy(), Some(2.0 / 3.0));
/// # Ok(())
/// # }
/// ```
pub fn evaluate(
    predict: &dyn Fn(&Tensor) -> Result<Tensor>,
    set: &ImageSet,
    normalisation: &Normalisation,
    classes: usize,
    batch_size: usize,
) -> Result<Evaluation> {
    let predicted = predicted_classes(predict, set, normalisation, batch_size)?;
    Evaluation::new(&set.labels, &predicted, classes)
}

/// Returns the class of the highest score of `predict` for each image of `set`, i64 `[M]`, of which
/// [`Evaluation::new`] counts all or a part; `predict` and `batch_size` are those of [`evaluate`].
///
/// # Errors
/// Fails when `predict` or libtorch does, and on Ctrl-C.
pub fn predicted_classes(
    predict: &dyn Fn(&Tensor) -> Result<Tensor>,
    set: &ImageSet,
    normalisation: &Normalisation,
    batch_size: usize,
) -> Result<Tensor> {
    no_grad(|| {
        let predicted = set.labels.f_empty_like()?;
        let total = set.len() as i64;
        let normaliser = normalisation.on(set.images.device());
        let mut start = 0;
        while start < total {
            interrupt::check()?;
            let count = (batch_size.max(1) as i64).min(total - start);
            let scores = predict(&normaliser.apply(&set.images.narrow(0, start, count)))?;
            predicted
                .narrow(0, start, count)
                .f_copy_(&scores.f_argmax(1, false)?)?;
            start += count;
        }
        Ok(predicted)
    })
}

/// Returns true if a model is evaluated after epoch `epoch` (from 0) of `epochs`: after every
/// `every`-th one and after the last.
pub fn is_evaluated(epoch: usize, every: usize, epochs: usize) -> bool {
    let done = epoch + 1;
    done.is_multiple_of(every) || done == epochs
}
