//! What is noted while a student trains: it hears of every epoch and of every fresh batch,
//! evaluates, writes the metrics as they come, and saves the run.

use super::super::pictures;
use super::super::test;
use crate::artifact::json;
use crate::config::schema::StudentConfig;
use crate::data::Dataset;
use crate::distill::{FreshBatch, FreshReport};
use crate::error::Result;
use crate::model::Model;
use crate::run::BestWeights;
use crate::run::Checkpointer;
use crate::run::journal::{BatchLine, EpochLine, Journal, Mark};
use crate::run::metrics::StudentEpoch;
use crate::runtime::Progress;
use crate::train::{Callback, EpochReport, FitState};
use crate::words::percent;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::RefCell;
use std::time::Instant;

/// All that was noted; what a resumed run starts from.
#[derive(Default, Serialize, Deserialize)]
pub struct Notes {
    pub epochs: Vec<StudentEpoch>,
    pub fresh: Vec<FreshReport>,
    pub events: Option<Mark>,
}

impl Notes {
    /// Steps of the first `epochs` epochs.
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

    /// The metrics' lines in the order in which they were written.
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

/// The open book. Shared by the batch source and the training loop, which take turns.
pub struct Logbook<'a> {
    dataset: &'a Dataset,
    settings: &'a StudentConfig,
    saver: Checkpointer<'a>,
    progress: &'a Progress,
    open: RefCell<Open>,
}

struct Open {
    notes: Notes,
    kept: BestWeights,
    journal: Journal,
    /// Since the last epoch ended.
    clock: Instant,
}

impl<'a> Logbook<'a> {
    pub fn new(
        dataset: &'a Dataset,
        settings: &'a StudentConfig,
        saver: Checkpointer<'a>,
        progress: &'a Progress,
        journal: Journal,
        kept: BestWeights,
        notes: Notes,
    ) -> Self {
        let open = Open {
            notes,
            kept,
            journal,
            clock: Instant::now(),
        };
        Self {
            dataset,
            settings,
            saver,
            progress,
            open: RefCell::new(open),
        }
    }

    pub fn close(self) -> (Notes, BestWeights, Journal) {
        let Open {
            notes,
            kept,
            journal,
            ..
        } = self.open.into_inner();
        (notes, kept, journal)
    }
}

impl Callback<FreshBatch> for &Logbook<'_> {
    fn step(&mut self) {
        self.progress.step();
    }

    fn report(&mut self, _: Option<&Model>, batch: &FreshBatch) -> Result<()> {
        let FreshBatch {
            report,
            images,
            labels,
        } = batch;
        let open = &mut *self.open.borrow_mut();
        let line = open.notes.batch_line(report);
        open.journal.add(&line)?;
        // One picture an epoch, of its first batch.
        let first = open
            .notes
            .fresh
            .last()
            .is_none_or(|last| last.epoch != report.epoch);
        if first && open.journal.shows_pictures() {
            let title = format!("Batch {}", report.batch);
            let (classes, normalisation) = (&self.dataset.classes, &self.dataset.normalisation);
            let grid = pictures::grid(&title, images, labels, classes, normalisation);
            open.journal
                .image("batch/grid", line.step as i64, &grid.png()?)?;
        }
        open.notes.fresh.push(report.clone());
        Ok(())
    }
}

impl Callback for &Logbook<'_> {
    fn step(&mut self) {
        self.progress.step();
    }

    fn epoch(&mut self, model: &Model, report: &EpochReport) -> Result<()> {
        let evaluation = test(model, self.dataset, *self.settings.eval_batch_size)?;
        let accuracy = evaluation.accuracy();
        let open = &mut *self.open.borrow_mut();
        open.kept
            .offer(self.settings.selection, report.epoch, accuracy, model);
        let epoch = StudentEpoch {
            fit: *report,
            test_accuracy: accuracy,
            per_class_accuracy: evaluation.per_class(),
        };
        let line = open.notes.epoch_line(&epoch);
        open.notes.epochs.push(epoch);
        open.journal.add(&line)?;
        let seconds = open.clock.elapsed().as_secs_f64();
        open.clock = Instant::now();
        open.journal
            .scalar("epoch/seconds", line.step as i64, seconds)?;
        let text = format!("loss {:.3}, test {}", report.train_loss, percent(accuracy));
        tracing::debug!("epoch {}: {text}, {seconds:.1} s", report.epoch);
        self.progress
            .message(format!("epoch {}, {text}", report.epoch + 1));
        Ok(())
    }

    fn due(&self) -> bool {
        self.saver.due()
    }

    fn save(&mut self, state: &FitState) -> Result<()> {
        let open = &mut *self.open.borrow_mut();
        open.notes.events = open.journal.mark()?;
        self.saver.save(state, &open.kept, &open.notes)
    }
}
