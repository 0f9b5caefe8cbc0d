//! Trains a client and encodes its report, in the same way for all federated algorithms.

use crate::artifact::json;
use crate::data::ImageSet;
use crate::error::{Error, Result, Text, parameter};
use crate::model::{Model, StateDict};
use crate::train::{
    BatchSource, Callback, EpochReport, FitSettings, Objective, OptimizerSettings, ScheduleKind,
    ScheduleSettings, Steps, fit,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tch::Tensor;

/// Holds a client's private images.
#[derive(Debug)]
pub struct NodeData {
    /// What the client trains on.
    pub train: ImageSet,
    /// What the client tests its own model on.
    pub test: ImageSet,
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
        schedule: ScheduleSettings {
            kind: ScheduleKind::Constant,
            ..ScheduleSettings::default()
        },
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

/// The name of the tensor that a report travels as.
pub(super) const REPORT: &str = "report";

/// Reports a client's part in a round, in numbers of which none is ever negative.
pub(super) trait Report: Serialize + DeserializeOwned {
    /// The fields beside `node`, in the order in which they are sent.
    const NUMBERS: &'static [&'static str];

    /// Returns the numbers f64 [N], −1 for each that is missing.
    ///
    /// # Errors
    /// Fails when a number is not finite.
    fn numbers(&self) -> Result<Tensor> {
        let report = json::value(self)?;
        let number = |name: &&str| report[name].as_f64().unwrap_or(-1.0);
        let numbers: Vec<f64> = Self::NUMBERS.iter().map(number).collect();
        Ok(Tensor::from_slice(&numbers))
    }

    /// Returns the report as a message.
    ///
    /// # Errors
    /// Fails when a number is not finite.
    fn encode(&self) -> Result<StateDict> {
        Ok(StateDict::new(vec![(REPORT.into(), self.numbers()?)]))
    }

    /// Returns the report that [`encode`](Self::encode) made a message of.
    ///
    /// # Errors
    /// Fails when the message of `node` is no report.
    fn decode(node: usize, message: &StateDict) -> Result<Self> {
        let numbers = message.get(REPORT).map(Vec::<f64>::try_from).transpose()?;
        let numbers = numbers.filter(|numbers| numbers.len() == Self::NUMBERS.len());
        let value = |number: f64| match number {
            missing if missing < 0.0 => Value::Null,
            // An integer is also a float where JSON is read.
            whole if whole.fract() == 0.0 => Value::from(whole as u64),
            number => Value::from(number),
        };
        let report = numbers.and_then(|numbers| {
            let values = numbers.into_iter().map(value);
            let names = Self::NUMBERS.iter().map(|&name| name.to_owned());
            let mut fields: Map<String, Value> = names.zip(values).collect();
            fields.insert("node".into(), node.into());
            serde_json::from_value(fields.into()).ok()
        });
        report
            .ok_or_else(|| Error::failed(format!("node {node} sent a report that cannot be read")))
    }
}

/// Returns the hint for numbers that are not finite.
pub(super) fn lower_rate() -> Text {
    Text::from("lower the learning rate (") + parameter("optimizer.lr") + ")"
}

/// Divides the state of `model` into parameters and buffers (the running statistics of batch norm):
/// views, in the model's order.
pub(super) fn parameters_and_buffers(model: &Model) -> (StateDict, StateDict) {
    let names: Vec<&str> = model
        .named_parameters()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let state = model.state();
    let of = |is_parameter: bool| {
        let wanted = state
            .iter()
            .filter(|(name, _)| names.contains(name) == is_parameter);
        let views = wanted.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
        StateDict::new(views.collect())
    };
    (of(true), of(false))
}
