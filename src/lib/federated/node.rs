//! What the federated algorithms share of a client: its images, how it trains, what it reports.

use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::model::{Model, StateDict};
use crate::train::{
    BatchSource, Callback, EpochReport, FitSettings, Objective, OptimizerSettings,
    ScheduleSettings, fit,
};
use tch::Tensor;

/// A client's private images.
#[derive(Debug)]
pub struct NodeData {
    pub train: ImageSet,
    /// What the client tests its own model on.
    pub test: ImageSet,
}

/// Trains `model` as a client does in a round: at a constant rate, with moments that start afresh.
/// Calls `step` after each batch. Returns the last epoch's report; `None` without epochs.
///
/// # Errors
/// As [`fit`].
pub(super) fn train(
    model: &mut Model,
    source: &mut dyn BatchSource,
    objective: &dyn Objective,
    epochs: usize,
    optimizer: &OptimizerSettings,
    step: &mut dyn FnMut(),
) -> Result<Option<EpochReport>> {
    let settings = FitSettings {
        epochs,
        optimizer: optimizer.clone(),
        schedule: ScheduleSettings::Constant,
    };
    let mut last = LastReport { report: None, step };
    fit(model, source, objective, &settings, None, &mut last)?;
    Ok(last.report)
}

/// Keeps the last epoch's report.
struct LastReport<'a> {
    report: Option<EpochReport>,
    step: &'a mut dyn FnMut(),
}

impl Callback for LastReport<'_> {
    fn step(&mut self) {
        (self.step)();
    }

    fn epoch(&mut self, _: &Model, report: &EpochReport) -> Result<()> {
        self.report = Some(*report);
        Ok(())
    }
}

/// The tensor that a report travels as.
const REPORT: &str = "report";

/// Returns the numbers of a report as a message: f64 [N], −1 for each that is missing. None of them
/// is ever negative.
pub(super) fn encode_report<const N: usize>(numbers: [Option<f64>; N]) -> StateDict {
    let numbers = Tensor::from_slice(&numbers.map(|number| number.unwrap_or(-1.0)));
    StateDict::new(vec![(REPORT.into(), numbers)])
}

/// Returns the numbers that [`encode_report`] made a message of.
///
/// # Errors
/// A message of `node` that holds no `N` numbers.
pub(super) fn decode_report<const N: usize>(
    node: usize,
    message: &StateDict,
) -> Result<[Option<f64>; N]> {
    let numbers = message.get(REPORT).map(Vec::<f64>::try_from).transpose()?;
    let numbers = numbers.and_then(|numbers| <[f64; N]>::try_from(numbers).ok());
    let numbers = numbers
        .ok_or_else(|| Error::failed(format!("node {node} sent a report that cannot be read")))?;
    Ok(numbers.map(|number| (number >= 0.0).then_some(number)))
}

/// Divides the state of `model` into parameters and buffers (the running statistics of batch norm):
/// views, in the model's order.
pub(super) fn parameters_and_buffers(model: &Model) -> (StateDict, StateDict) {
    let names: Vec<&str> = model
        .named_parameters()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let (parameters, buffers) = owned(&model.state())
        .into_iter()
        .partition(|(name, _)| names.contains(&name.as_str()));
    (StateDict::new(parameters), StateDict::new(buffers))
}

/// Returns the tensors of `state`, shared.
pub(super) fn owned(state: &StateDict) -> Vec<(String, Tensor)> {
    let view = |(name, tensor): (&str, &Tensor)| (name.to_owned(), tensor.shallow_clone());
    state.iter().map(view).collect()
}

/// Returns the tensors of `tensors` whose names begin with `prefix`, shared, under the rest of
/// their names.
pub(super) fn under(prefix: &str, tensors: &StateDict) -> StateDict {
    let rest = |(name, tensor): (&str, &Tensor)| {
        Some((
            name.strip_prefix(prefix)?.to_owned(),
            tensor.shallow_clone(),
        ))
    };
    StateDict::new(tensors.iter().filter_map(rest).collect())
}
