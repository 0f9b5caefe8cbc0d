//! Records the training of a student: evaluates after each epoch, writes the metrics of epochs and
//! fresh batches as they come, and saves the run.

use super::super::pictures;
use super::super::test;
use crate::artifact::json;
use crate::config::schema::StudentConfig;
use crate::data::Dataset;
use crate::distill::{FreshBatch, FreshReport};
use crate::error::Error;
use crate::model::Model;
use crate::run::BestWeights;
use crate::run::Checkpointer;
use crate::run::journal::{BatchLine, EpochLine, EventPosition, Journal};
use crate::run::metrics::StudentEpoch;
use crate::runtime::Progress;
use crate::train::{Callback, EpochReport, FitState, Selection, is_evaluated};
use crate::words::percent;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::RefCell;
use std::time::Instant;

/// Holds what a resumed run starts from, beside the weights.
#[derive(Default, Serialize, Deserialize)]
pub struct Notes {
    pub epochs: Vec<StudentEpoch>,
    pub fresh: Vec<FreshReport>,
    pub events: Option<EventPosition>,
    /// Index of the first fresh batch; earlier versions do not tell.
    #[serde(default)]
    pub first_batch: Option<usize>,
}

impl Notes {
    /// Returns the number of steps in the first `epochs` epochs.
    fn steps(&self, epochs: usize) -> usize {
        self.epochs
            .iter()
            .take(epochs)
            .map(|epoch| epoch.fit.steps)
            .sum()
    }

    fn epoch_line(&self, epoch: &StudentEpoch) -> EpochLine {
        let step = self.steps(epoch.fit.epoch) + epoch.fit.steps;
        EpochLine {
            test_accuracy: epoch.test_accuracy,
            ..EpochLine::new("train_student", None, step, &epoch.fit)
        }
    }

    fn batch_line(&self, report: &FreshReport) -> BatchLine {
        BatchLine::fresh(report, self.steps(report.epoch) + report.step)
    }

    /// Returns the metrics' lines in the order in which they were written.
    ///
    /// # Errors
    /// Fails when a number is not finite.
    pub fn lines(&self) -> Result<Vec<Value>> {
        let mut lines = Vec::new();
        for epoch in 0..=self.epochs.len() {
            for report in self.fresh.iter().filter(|report| report.epoch == epoch) {
                lines.push(json::value(&self.batch_line(report))?);
            }
            if let Some(epoch) = self.epochs.get(epoch) {
                lines.push(json::value(&self.epoch_line(epoch))?);
            }
        }
        Ok(lines)
    }
}

/// Records a run. Shared by the batch source and the training loop, which take turns.
pub struct Recorder<'a> {
    dataset: &'a Dataset,
    settings: &'a StudentConfig,
    checkpointer: Checkpointer<'a>,
    progress: &'a Progress,
    record: RefCell<Record>,
}

/// Holds what was recorded so far.
struct Record {
    notes: Notes,
    best: BestWeights,
    journal: Journal,
    /// Time at which the last epoch ended.
    clock: Instant,
}

impl<'a> Recorder<'a> {
    /// Returns the recorder of a run that continues from `notes` and the `best` weights so far.
    pub fn new(
        dataset: &'a Dataset,
        settings: &'a StudentConfig,
        checkpointer: Checkpointer<'a>,
        progress: &'a Progress,
        journal: Journal,
        best: BestWeights,
        notes: Notes,
    ) -> Self {
        let record = Record {
            notes,
            best,
            journal,
            clock: Instant::now(),
        };
        Self {
            dataset,
            settings,
            checkpointer,
            progress,
            record: RefCell::new(record),
        }
    }

    /// Returns what was recorded, and the journal, to be closed.
    pub fn close(self) -> (Notes, BestWeights, Journal) {
        let Record {
            notes,
            best,
            journal,
            ..
        } = self.record.into_inner();
        (notes, best, journal)
    }
}

impl Callback<FreshBatch> for &Recorder<'_> {
    fn step(&mut self) {
        self.progress.step();
    }

    fn report(&mut self, _: Option<&Model>, batch: &FreshBatch) -> Result<(), Error> {
        let FreshBatch {
            report,
            images,
            labels,
        } = batch;
        let record = &mut *self.record.borrow_mut();
        let line = record.notes.batch_line(report);
        record.journal.add(&line)?;
        // One picture an epoch, of its first batch.
        let first = record
            .notes
            .fresh
            .last()
            .is_none_or(|last| last.epoch != report.epoch);
        if first && record.journal.shows_pictures() {
            let title = format!("Batch {}", report.batch);
            let (classes, normalisation) = (&self.dataset.classes, &self.dataset.normalisation);
            let grid = pictures::grid(&title, images, labels, classes, normalisation);
            record
                .journal
                .image("batch/grid", line.step as i64, &grid.png()?)?;
        }
        record.notes.fresh.push(report.clone());
        Ok(())
    }
}

impl Callback for &Recorder<'_> {
    fn step(&mut self) {
        self.progress.step();
    }

    fn epoch(&mut self, model: &Model, report: &EpochReport) -> Result<(), Error> {
        let settings = self.settings;
        let evaluated = is_evaluated(report.epoch, settings.eval_every, settings.epochs);
        let (accuracy, per_class) = match evaluated {
            true => {
                let evaluation = test(model, self.dataset, *settings.eval_batch_size)?;
                (evaluation.accuracy(), evaluation.per_class())
            }
            false => (None, vec![None; self.dataset.classes.len()]),
        };
        let record = &mut *self.record.borrow_mut();
        if evaluated || settings.selection == Selection::Last {
            let best = &mut record.best;
            best.offer(settings.selection, report.epoch, accuracy, model);
        }
        let epoch = StudentEpoch {
            fit: *report,
            test_accuracy: accuracy,
            per_class_accuracy: per_class,
        };
        let line = record.notes.epoch_line(&epoch);
        record.notes.epochs.push(epoch);
        record.journal.add(&line)?;
        let seconds = record.clock.elapsed().as_secs_f64();
        record.clock = Instant::now();
        record
            .journal
            .scalar("epoch/seconds", line.step as i64, seconds)?;
        let text = format!("loss {:.3}", report.train_loss);
        let text = match evaluated {
            true => format!("{text}, test {}", percent(accuracy)),
            false => text,
        };
        tracing::debug!("epoch {}: {text}, {seconds:.1} s", report.epoch + 1);
        self.progress
            .message(format!("epoch {}, {text}", report.epoch + 1));
        Ok(())
    }

    fn due(&self) -> bool {
        self.checkpointer.due()
    }

    fn save(&mut self, state: &FitState) -> Result<(), Error> {
        let record = &mut *self.record.borrow_mut();
        record.notes.events = record.journal.event_position()?;
        Ok(self.checkpointer.save(state, &record.best, &record.notes)?)
    }
}
