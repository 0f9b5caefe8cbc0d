//! Encodes what a client reports of a round.

use super::link::Answers;
use crate::artifact::json;
use crate::error::{Error, Result};
use crate::model::StateDict;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tch::Tensor;

/// The name of the tensor that a report travels as, f64 \[N\].
pub const REPORT: &str = "report";

/// Reports a client's part in a round, in numbers of which none is ever negative.
pub trait Report: Serialize + DeserializeOwned {
    /// The fields beside `node`, in the order in which they are sent.
    const NUMBERS: &'static [&'static str];

    /// Returns the numbers f64 \[N\], −1 for each that is missing.
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
        Self::of_numbers(node, &numbers.unwrap_or_default())
    }

    /// Returns the report of [`numbers`](Self::numbers).
    ///
    /// # Errors
    /// Fails when the numbers of `node` are no report.
    fn of_numbers(node: usize, numbers: &[f64]) -> Result<Self> {
        let value = |number: f64| match number {
            missing if missing < 0.0 => Value::Null,
            // An integer is also a float where JSON is read.
            whole if whole.fract() == 0.0 => Value::from(whole as u64),
            number => Value::from(number),
        };
        let report = (numbers.len() == Self::NUMBERS.len()).then(|| {
            let values = numbers.iter().copied().map(value);
            let names = Self::NUMBERS.iter().map(|&name| name.to_owned());
            let mut fields: Map<String, Value> = names.zip(values).collect();
            fields.insert("node".into(), node.into());
            serde_json::from_value(fields.into()).ok()
        });
        report
            .flatten()
            .ok_or_else(|| Error::failed(format!("node {node} sent a report that cannot be read")))
    }

    /// Returns the reports of all nodes, which are their first answers.
    ///
    /// # Errors
    /// Fails as [`decode`](Self::decode) does.
    fn decode_all<const N: usize>(answers: &Answers<N>) -> Result<Vec<Self>> {
        let answers = answers.iter();
        answers
            .map(|(&node, answer)| Self::decode(node, &answer[0]))
            .collect()
    }
}
