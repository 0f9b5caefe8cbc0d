//! Trains a client, in the same way for all federated algorithms.

use crate::data::{Dataset, ImageSet};
use crate::error::Result;
use crate::model::{Model, StateDict};
use crate::partition::Part;
use crate::train::{
    BatchSource, Callback, EpochReport, FitSettings, Objective, OptimizerSettings,
    ScheduleSettings, Steps, fit,
};

/// Holds a client's private images.
#[derive(Debug)]
pub struct NodeData {
    /// What the client trains on.
    pub train: ImageSet,
    /// What the client tests its own model on.
    pub test: ImageSet,
}

impl NodeData {
    /// Returns a copy of the images of a part.
    ///
    /// # Errors
    /// Fails for an index that the dataset does not have, and as libtorch does.
    pub fn of(dataset: &Dataset, part: &Part) -> Result<Self> {
        Ok(Self {
            train: dataset.train.select(&part.train)?,
            test: dataset.test.select(&part.test)?,
        })
    }
}

/// Trains `model` as a client does in a round: at a constant rate, with moments that start afresh.
/// Tells `callback` of each step. Returns the last epoch's report; `None` without epochs.
///
/// # Errors
/// Fails as [`fit`] does.
pub(super) fn train<R>(
    model: &mut Model,
    source: &mut dyn BatchSource,
    objective: &dyn Objective,
    epochs: usize,
    optimizer: &OptimizerSettings,
    callback: &mut dyn Callback<R>,
) -> Result<Option<EpochReport>> {
    let settings = FitSettings {
        epochs,
        optimizer: optimizer.clone(),
        schedule: ScheduleSettings::Constant,
    };
    let mut callback = (LastReport(None), Steps(callback));
    fit(model, source, objective, &settings, None, &mut callback)?;
    Ok(callback.0.0)
}

/// Keeps the last epoch's report.
struct LastReport(Option<EpochReport>);

impl Callback for LastReport {
    fn epoch(&mut self, _: &Model, report: &EpochReport) -> Result<()> {
        self.0 = Some(*report);
        Ok(())
    }
}

/// Divides the state of `model` into parameters and buffers (the running statistics of batch norm):
/// views, in the model's order.
pub(super) fn parameters_and_buffers(model: &Model) -> (StateDict, StateDict) {
    let named = model.named_parameters().into_iter();
    let names: Vec<&str> = named.map(|(name, _)| name).collect();
    let state = model.state();
    state.partition(|name| names.contains(&name))
}
