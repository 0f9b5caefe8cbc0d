//! Checks an answer that came from anybody, before any network is built: the messages that were
//! asked for, with the tensors that belong into them, every value of them, and a report that can be
//! true.

use super::envelope;
use super::plan::Algorithm;
use super::progress::Asked;
use crate::artifact::{json, tensors};
use crate::error::{Error, Result};
use crate::federated::fed_avg::{self, Statistics};
use crate::federated::{Kind, REPORT, Report, fed_md, label};
use crate::model::Model;
use crate::network::task::Task;
use crate::network::validate::{self, Announced};
use fs_err::File;
use serde_json::Value;
use std::io::{BufReader, Read};
use std::path::Path;
use tch::Kind as Type;

/// Longest header of a message: names and shapes of some thousand tensors.
const MOST_HEADER: u64 = 1 << 20;

/// Checks that the file at `path` is what was announced, and the answer of `node` to what was
/// asked.
///
/// # Errors
/// Fails for whatever is wrong with it, and when it cannot be read.
pub fn answer(
    path: &Path,
    announced: &Announced,
    asked: &Asked,
    node: usize,
    task: &Task,
) -> Result<()> {
    validate::same_file(path, announced)?;
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut left = announced.bytes;
    envelope::begin(&mut file, &mut left)?;
    for &kind in &asked.kinds {
        let length = envelope::next(&mut file, &mut left)?;
        let mut message = (&mut file).take(length);
        let header = tensors::header(&mut message, length, MOST_HEADER)?;
        let expected = label(asked.at.round, Some(node), kind);
        if header.metadata != expected {
            return Err(Error::failed("a message is not the one that was asked for")
                .note("expected", format!("{expected:?}"))
                .note(
                    "found",
                    format!("{:.200}", format!("{:?}", header.metadata)),
                ));
        }
        let outline = outline(kind, node, task)?;
        validate::check_outline(&header.tensors, &outline, &kind.to_string())?;
        match kind {
            Kind::Report => check_report(&mut message, node, announced.images, task)?,
            _ => header
                .tensors
                .iter()
                .try_for_each(|tensor| validate::check_values(&mut message, tensor))?,
        }
    }
    match left {
        0 => Ok(()),
        more => Err(Error::failed(format!(
            "the answer has {more} bytes more than its messages"
        ))),
    }
}

/// Returns name, shape and type of the tensors of a message.
fn outline(kind: Kind, node: usize, task: &Task) -> Result<Vec<(String, Vec<i64>, Type)>> {
    let algorithm = task.rounds.as_ref().map(|plan| &plan.algorithm);
    match (kind, algorithm) {
        (Kind::Report, Some(algorithm)) => {
            let count = match algorithm {
                Algorithm::FedAvg { .. } => fed_avg::NodeReport::NUMBERS.len(),
                Algorithm::FedMd { .. } => fed_md::NodeReport::NUMBERS.len(),
            };
            Ok(vec![(REPORT.into(), vec![count as i64], Type::Double)])
        }
        (Kind::Model, Some(Algorithm::FedAvg { settings })) => {
            let mut outline = Model::outline(&task.spec_of(node))?;
            if settings.statistics == Statistics::Local {
                let ends = [".running_mean", ".running_var", ".num_batches_tracked"];
                outline.retain(|(name, ..)| !ends.iter().any(|end| name.ends_with(end)));
            }
            Ok(outline)
        }
        (Kind::Scores, Some(Algorithm::FedMd { settings, public })) => {
            let samples = settings.samples(public.images) as i64;
            let shape = vec![samples, task.classes.len() as i64];
            Ok(vec![("scores".into(), shape, Type::Float)])
        }
        _ => Err(Error::failed(format!(
            "no client sends a message of the kind {kind}"
        ))),
    }
}

/// Reads the numbers of a report and checks them: none but what a client can have counted, and as
/// many images as it declared, since they are its weight.
fn check_report(message: &mut impl Read, node: usize, images: u64, task: &Task) -> Result<()> {
    let mut bytes = Vec::new();
    message.read_to_end(&mut bytes)?;
    let (numbers, _) = bytes.as_chunks::<8>();
    let numbers: Vec<f64> = numbers
        .iter()
        .map(|number| f64::from_le_bytes(*number))
        .collect();
    let wrong = |name: &str, number: f64| {
        Error::failed("the report cannot be right").note("number", format!("{name}: {number}"))
    };
    let check = |names: &[&str], report: Value| {
        for (name, &number) in names.iter().zip(&numbers) {
            let is_share = name.ends_with("_accuracy");
            if !number.is_finite() || is_share && number > 1.0 {
                return Err(wrong(name, number));
            }
        }
        match report["images"] == images {
            true => Ok(()),
            false => Err(Error::failed("the report has another number of images")
                .note("expected", format!("{images}, as the client declared"))
                .note("found", report["images"].to_string())),
        }
    };
    match task.rounds.as_ref().map(|plan| &plan.algorithm) {
        Some(Algorithm::FedMd { .. }) => check(
            fed_md::NodeReport::NUMBERS,
            json::value(&fed_md::NodeReport::of_numbers(node, &numbers)?)?,
        ),
        _ => check(
            fed_avg::NodeReport::NUMBERS,
            json::value(&fed_avg::NodeReport::of_numbers(node, &numbers)?)?,
        ),
    }
}
