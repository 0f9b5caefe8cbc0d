//! Watches a teacher's training: evaluates after each epoch, keeps the weights that will be saved, and sums up in the end.

use super::super::kept::Kept;
use super::super::percent;
use crate::config::schema::TeacherConfig;
use crate::data::{Dataset, ImageSet};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::runtime::Progress;
use crate::train::{EpochReport, Observer, Selection, evaluate};
use serde::Serialize;

/// A teacher's `metrics_teacher{i}.json`.
#[derive(Debug, Serialize)]
pub struct Metrics {
    pub teacher: usize,
    pub label_counts: Vec<u64>,
    pub train_images: usize,
    pub test_images: usize,
    pub parameters: u64,
    pub upload_bytes: u64,
    /// The epoch whose weights were saved, and why.
    pub saved_epoch: usize,
    pub selection: Selection,
    /// Accuracy on the whole test set after the last epoch, of the best epoch, and of the weights that were saved.
    pub final_test_accuracy: Option<f64>,
    pub best_test_accuracy: Option<f64>,
    pub saved_test_accuracy: Option<f64>,
    pub epochs: Vec<Epoch>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Epoch {
    #[serde(flatten)]
    pub fit: EpochReport,
    /// On the whole test set.
    pub test_accuracy: Option<f64>,
    /// On the node's own test part.
    pub own_test_accuracy: Option<f64>,
    /// On the images held out of the node's training part.
    pub validation_accuracy: Option<f64>,
}

/// Evaluates after each epoch.
pub struct Watcher<'a> {
    pub dataset: &'a Dataset,
    pub settings: &'a TeacherConfig,
    pub own_test: ImageSet,
    pub validation: Option<ImageSet>,
    pub node: usize,
    pub epochs: Vec<Epoch>,
    pub best: Kept,
    pub progress: Progress,
}

impl Watcher<'_> {
    /// What `metrics_teacher{i}.json` will hold.
    pub fn metrics(self, model: &Model, label_counts: Vec<u64>, train_images: usize, upload_bytes: u64) -> Metrics {
        let of = |epoch: usize| self.epochs.get(epoch).and_then(|epoch| epoch.test_accuracy);
        let best = self
            .epochs
            .iter()
            .filter_map(|epoch| epoch.test_accuracy)
            .fold(None, |best: Option<f64>, accuracy| {
                Some(best.map_or(accuracy, |best| best.max(accuracy)))
            });
        Metrics {
            teacher: self.node,
            label_counts,
            train_images,
            test_images: self.own_test.len(),
            parameters: model.parameter_count(),
            upload_bytes,
            saved_epoch: self.best.epoch(),
            selection: self.settings.selection,
            final_test_accuracy: of(self.epochs.len().saturating_sub(1)),
            best_test_accuracy: best,
            saved_test_accuracy: of(self.best.epoch()),
            epochs: self.epochs,
        }
    }
}

impl Observer for Watcher<'_> {
    fn step(&mut self) {
        self.progress.step();
    }

    fn epoch(&mut self, model: &Model, report: &EpochReport) -> Result<()> {
        let accuracy = |set: &ImageSet| {
            let classes = self.dataset.classes.len();
            let predict = |images: &tch::Tensor| Ok(model.eval(images));
            Ok::<_, Error>(
                evaluate(
                    &predict,
                    set,
                    &self.dataset.normalisation,
                    classes,
                    self.settings.eval_batch_size,
                )?
                .accuracy(),
            )
        };
        let epoch = Epoch {
            fit: *report,
            test_accuracy: accuracy(&self.dataset.test)?,
            own_test_accuracy: accuracy(&self.own_test)?,
            validation_accuracy: self.validation.as_ref().map(accuracy).transpose()?.flatten(),
        };
        let selecting = match self.settings.selection {
            Selection::BestValidation => epoch.validation_accuracy,
            _ => epoch.test_accuracy,
        };
        self.best.offer(self.settings.selection, report.epoch, selecting, model);
        self.progress.message(format!(
            "loss {:.3}, test {}",
            report.train_loss,
            percent(epoch.test_accuracy)
        ));
        self.epochs.push(epoch);
        Ok(())
    }
}
