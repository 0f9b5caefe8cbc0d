//! What the federated algorithms share of a node: its images, and how it trains in its turn.

use crate::data::ImageSet;
use crate::error::Result;
use crate::model::Model;
use crate::train::{
    BatchSource, EpochReport, FitSettings, Objective, Observer, OptimizerSettings, ScheduleKind,
    ScheduleSettings, fit,
};

/// A node's private images.
#[derive(Debug)]
pub struct NodeData {
    pub train: ImageSet,
    /// What the node tests its own model on.
    pub test: ImageSet,
}

/// How a node trains in its turn: at a constant rate, with moments that start afresh.
pub(super) struct Turn<'a> {
    pub epochs: usize,
    pub optimizer: &'a OptimizerSettings,
    /// Called after each batch.
    pub step: &'a dyn Fn(),
}

impl Turn<'_> {
    /// Trains `model` with the one loop; the last epoch's report, `None` without epochs.
    ///
    /// # Errors
    /// As [`fit`].
    pub fn train(
        &self,
        model: &mut Model,
        source: &mut dyn BatchSource,
        objective: &dyn Objective,
    ) -> Result<Option<EpochReport>> {
        let fitting = FitSettings {
            epochs: self.epochs,
            optimizer: self.optimizer.clone(),
            schedule: ScheduleSettings {
                kind: ScheduleKind::Constant,
                ..ScheduleSettings::default()
            },
        };
        let mut last = Last {
            report: None,
            step: self.step,
        };
        fit(model, source, objective, &fitting, None, &mut last)?;
        Ok(last.report)
    }
}

/// Keeps the last epoch's report.
struct Last<'a> {
    report: Option<EpochReport>,
    step: &'a dyn Fn(),
}

impl Observer for Last<'_> {
    fn step(&mut self) {
        (self.step)();
    }

    fn epoch(&mut self, _: &Model, report: &EpochReport) -> Result<()> {
        self.report = Some(*report);
        Ok(())
    }
}
