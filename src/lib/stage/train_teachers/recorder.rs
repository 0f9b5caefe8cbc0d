//! Records the training of a teacher: evaluates after each epoch, keeps the weights that will be
//! saved, and returns the metrics in the end.

use crate::artifact::json;
use crate::config::schema::TeacherConfig;
use crate::data::{Dataset, ImageSet};
use crate::error::Error;
use crate::model::Model;
use crate::run::BestWeights;
use crate::run::Checkpointer;
use crate::run::journal::{EpochLine, EventPosition, Journal};
use crate::run::metrics::{TeacherEpoch, TeacherMetrics};
use crate::runtime::Progress;
use crate::train::{
    Callback, EpochReport, Evaluation, FitState, Selection, evaluate, is_evaluated,
    predicted_classes,
};
use crate::words::percent;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Instant;
use tch::Tensor;

/// Holds what a resumed run starts from, beside the weights.
#[derive(Default, Serialize, Deserialize)]
pub struct Notes {
    pub epochs: Vec<TeacherEpoch>,
    pub events: Option<EventPosition>,
}

/// Records a run.
pub struct Recorder<'a> {
    pub dataset: &'a Dataset,
    pub settings: &'a TeacherConfig,
    /// Which of the test images are the node's own, i64 [M].
    pub own_test: Tensor,
    pub validation: Option<ImageSet>,
    pub node: usize,
    pub epochs: Vec<TeacherEpoch>,
    pub best: BestWeights,
    pub journal: Journal,
    pub checkpointer: Checkpointer<'a>,
    pub progress: Progress,
    /// Time at which the last epoch ended.
    pub clock: Instant,
}

/// Returns the metrics' lines of the first epochs.
pub fn lines(node: usize, epochs: &[TeacherEpoch]) -> Result<Vec<Value>> {
    let line = |index: usize| Ok(json::value(&line(node, &epochs[..index], &epochs[index]))?);
    (0..epochs.len()).map(line).collect()
}

/// Returns the line of an epoch that came after `before`.
fn line(node: usize, before: &[TeacherEpoch], epoch: &TeacherEpoch) -> EpochLine {
    let steps = before.iter().map(|epoch| epoch.fit.steps).sum::<usize>();
    EpochLine {
        test_accuracy: epoch.test_accuracy,
        own_test_accuracy: epoch.own_test_accuracy,
        validation_accuracy: epoch.validation_accuracy,
        ..EpochLine::new(
            "train_teachers",
            Some(node),
            steps + epoch.fit.steps,
            &epoch.fit,
        )
    }
}

impl Recorder<'_> {
    /// Returns what `metrics_teacher{i}.json` will hold, and the journal, to be closed.
    pub fn metrics(
        self,
        model: &Model,
        label_counts: Vec<u64>,
        train_images: usize,
        upload_bytes: u64,
    ) -> (TeacherMetrics, Journal) {
        let of = |epoch: usize| self.epochs.get(epoch).and_then(|epoch| epoch.test_accuracy);
        let tested = self.epochs.iter().filter_map(|epoch| epoch.test_accuracy);
        let best = tested.reduce(f64::max);
        let metrics = TeacherMetrics {
            teacher: self.node,
            label_counts,
            train_images,
            test_images: self.own_test.numel(),
            parameters: model.parameter_count(),
            upload_bytes,
            saved_epoch: self.best.epoch(),
            selection: self.settings.selection,
            final_test_accuracy: of(self.epochs.len().saturating_sub(1)),
            best_test_accuracy: best,
            saved_test_accuracy: of(self.best.epoch()),
            epochs: self.epochs,
        };
        (metrics, self.journal)
    }
}

/// Holds the accuracies of an epoch.
#[derive(Default)]
struct Accuracies {
    test: Option<f64>,
    own_test: Option<f64>,
    validation: Option<f64>,
}

impl Recorder<'_> {
    /// Evaluates the model on the test set, on the node's own part of it, whose images are among
    /// those predicted already, and on the images held out.
    fn accuracies(&self, model: &Model) -> Result<Accuracies, Error> {
        let Dataset {
            test,
            normalisation,
            classes,
            ..
        } = self.dataset;
        let batch_size = *self.settings.eval_batch_size;
        let predict = |images: &Tensor| Ok(model.eval(images));
        let predicted = predicted_classes(&predict, test, normalisation, batch_size)?;
        let own = |of_all: &Tensor| of_all.index_select(0, &self.own_test);
        let accuracy = |labels: &Tensor, predicted: &Tensor| {
            Evaluation::new(labels, predicted, classes.len()).map(|found| found.accuracy())
        };
        let held_out = self.validation.as_ref().map(|set| {
            evaluate(&predict, set, normalisation, classes.len(), batch_size)
                .map(|found| found.accuracy())
        });
        Ok(Accuracies {
            test: accuracy(&test.labels, &predicted)?,
            own_test: accuracy(&own(&test.labels), &own(&predicted))?,
            validation: held_out.transpose()?.flatten(),
        })
    }
}

impl Callback for Recorder<'_> {
    fn step(&mut self) {
        self.progress.step();
    }

    fn epoch(&mut self, model: &Model, report: &EpochReport) -> Result<(), Error> {
        let TeacherConfig {
            eval_every, epochs, ..
        } = *self.settings;
        let evaluated = is_evaluated(report.epoch, eval_every, epochs);
        let accuracies = match evaluated {
            true => self.accuracies(model)?,
            false => Accuracies::default(),
        };
        let epoch = TeacherEpoch {
            fit: *report,
            test_accuracy: accuracies.test,
            own_test_accuracy: accuracies.own_test,
            validation_accuracy: accuracies.validation,
        };
        let selection = self.settings.selection;
        let selecting = match selection {
            Selection::BestValidation => epoch.validation_accuracy,
            Selection::BestOwnTest => epoch.own_test_accuracy,
            _ => epoch.test_accuracy,
        };
        if evaluated || selection == Selection::Last {
            self.best.offer(selection, report.epoch, selecting, model);
        }
        let text = format!("loss {:.3}", report.train_loss);
        self.progress.message(match evaluated {
            true => format!("{text}, test {}", percent(epoch.test_accuracy)),
            false => text,
        });
        let line = line(self.node, &self.epochs, &epoch);
        self.epochs.push(epoch);
        self.journal.add(&line)?;
        let seconds = self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        self.journal
            .scalar("epoch/seconds", line.step as i64, seconds)?;
        Ok(())
    }

    fn due(&self) -> bool {
        self.checkpointer.due()
    }

    fn save(&mut self, state: &FitState) -> Result<(), Error> {
        let notes = Notes {
            epochs: self.epochs.clone(),
            events: self.journal.event_position()?,
        };
        Ok(self.checkpointer.save(state, &self.best, &notes)?)
    }
}
