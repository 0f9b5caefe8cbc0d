//! The one training loop: teachers, student and baseline clients all run it.
//!
//! Within an epoch nothing is read back from the device; sums stay there and are read once at its end.

use super::objective::Objective;
use super::optimizer::Optimizer;
use super::schedule::Moment;
use super::settings::{OptimizerSettings, ScheduleSettings};
use super::source::BatchSource;
use crate::error::{Error, Result};
use crate::model::{Model, Pass};
use crate::runtime::interrupt;
use serde::Serialize;
use std::time::Instant;
use tch::{Device, Kind, Tensor, no_grad};

/// How to train.
#[derive(Clone, Debug)]
pub struct FitSettings {
    pub epochs: usize,
    pub optimizer: OptimizerSettings,
    pub schedule: ScheduleSettings,
}

/// What an epoch's training passes gave. Accuracy is that of the training forward passes: augmented images, batch-norm in training
/// mode, weights on the move.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EpochReport {
    pub epoch: usize,
    /// Learning rate of the last step.
    pub lr: f64,
    pub steps: usize,
    /// Mean over images.
    pub train_loss: f64,
    /// Share of images, 0..1.
    pub train_accuracy: f64,
    pub seconds: f64,
}

/// What listens to a training run: progress bars, evaluation, files.
pub trait Observer {
    /// After each step.
    fn step(&mut self) {}

    /// After each epoch.
    ///
    /// # Errors
    /// Ends the run.
    fn epoch(&mut self, model: &Model, report: &EpochReport) -> Result<()>;
}

/// Trains `model` for `settings.epochs` epochs.
///
/// # Errors
/// A loss that is not finite (names epoch and step), Ctrl-C (after the step in hand), and those of source, objective and observer.
pub fn fit(
    model: &mut Model,
    source: &mut dyn BatchSource,
    objective: &dyn Objective,
    settings: &FitSettings,
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut optimizer = Optimizer::new(&settings.optimizer, model.parameters());
    for epoch in 0..settings.epochs {
        let start = Instant::now();
        let steps = source.begin(epoch)?;
        let mut sums = Sums::new(model.device());
        let mut lr = settings.optimizer.lr;
        for step in 0..steps {
            interrupt::check()?;
            let batch = source.next(step, model)?;
            let logits = model.forward(&batch.images, &mut Pass::Train);
            let loss = objective.loss(&logits, &batch)?;
            let at = Moment {
                epoch,
                epochs: settings.epochs,
                within: step as f64 / steps as f64,
            };
            lr = settings.optimizer.lr * settings.schedule.factor(at);
            optimizer.step(&loss, lr)?;
            sums.add(step, &loss, &logits, &batch.labels);
            observer.step();
        }
        let (train_loss, train_accuracy) = sums.read(epoch)?;
        let report = EpochReport {
            epoch,
            lr,
            steps,
            train_loss,
            train_accuracy,
            seconds: start.elapsed().as_secs_f64(),
        };
        observer.epoch(model, &report)?;
    }
    Ok(())
}

/// An epoch's sums, on the device.
struct Sums {
    loss: Tensor,
    correct: Tensor,
    /// The first step whose loss was not finite, or i64::MAX.
    broken: Tensor,
    images: i64,
}

impl Sums {
    fn new(device: Device) -> Self {
        Self {
            loss: Tensor::zeros([], (Kind::Double, device)),
            correct: Tensor::zeros([], (Kind::Int64, device)),
            broken: Tensor::full([], i64::MAX, (Kind::Int64, device)),
            images: 0,
        }
    }

    fn add(&mut self, step: usize, loss: &Tensor, logits: &Tensor, labels: &Tensor) {
        no_grad(|| {
            let images = labels.size()[0];
            self.images += images;
            self.loss += loss.to_kind(Kind::Double) * images;
            self.correct += logits.argmax(1, false).eq_tensor(labels).sum(Kind::Int64);
            let here = loss.isfinite().logical_not() * (step as i64 - i64::MAX) + i64::MAX;
            self.broken = self.broken.minimum(&here);
        });
    }

    /// Mean loss and accuracy.
    fn read(&self, epoch: usize) -> Result<(f64, f64)> {
        let step = i64::try_from(&self.broken)?;
        if step != i64::MAX {
            return Err(Error::failed(format!(
                "the training loss became NaN or infinite in epoch {epoch}, step {step}"
            ))
            .hint("lower the learning rate (`optimizer.lr`), or check the images' normalisation"));
        }
        let images = self.images as f64;
        Ok((
            f64::try_from(&self.loss)? / images,
            i64::try_from(&self.correct)? as f64 / images,
        ))
    }
}
