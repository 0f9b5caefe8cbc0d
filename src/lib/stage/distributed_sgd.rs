//! `distributed_sgd`: one model trained by stochastic gradient descent over several ranks, all-reduced or with a parameter server, and every
//! byte counted.

use super::job::{Job, Session};
use super::journal::Journal;
use super::weights::{self, Card};
use super::{Workplace, open, percent, required};
use crate::artifact::{json, manifest};
use crate::config::Composed;
use crate::config::schema::DistributedSgdConfig;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::federated::distributed_sgd::{self, LossAt, Method, Outcome, SgdSettings, Task};
use crate::federated::transport::{self, Transport};
use crate::federated::{Direction, Kind};
use crate::model::ModelSpec;
use crate::report::Table;
use crate::runtime::output::say;
use crate::runtime::seed::Seeds;
use crate::train::evaluate;
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// What the result depends on.
pub(super) const DEPENDS: [&str; 10] = [
    "seed",
    "dataset",
    "model",
    "distributed_sgd.method",
    "distributed_sgd.ranks",
    "distributed_sgd.epochs",
    "distributed_sgd.batch_size",
    "distributed_sgd.report_every",
    "distributed_sgd.optimizer",
    "distributed_sgd.augment",
];

/// `metrics.json`.
#[derive(Serialize)]
struct Metrics {
    method: Method,
    ranks: usize,
    parameters: u64,
    steps: usize,
    losses: Vec<LossAt>,
    test_accuracy: Option<f64>,
    traffic: Vec<Traffic>,
}

/// Bytes of one kind in one direction, over all ranks and steps.
#[derive(Serialize)]
struct Traffic {
    kind: Kind,
    direction: Direction,
    /// Of the tensors' values alone.
    values: u64,
    /// As serialised.
    bytes: u64,
}

/// A line of `metrics.jsonl`: a mean loss. `step` counts batches from the start of the run, `batch` from that of the epoch.
#[derive(Serialize)]
struct Line {
    stage: &'static str,
    event: &'static str,
    step: usize,
    #[serde(flatten)]
    at: LossAt,
}

/// Runs the stage.
///
/// # Errors
/// A training that diverges; a place that cannot be written.
pub fn run(composed: &Composed) -> Result<()> {
    let place = open(composed)?;
    let folder = required(
        &place.config.distributed_sgd.save_folder,
        "distributed_sgd.save_folder",
        "outputs/distributed_sgd",
    )?;
    let job = Job {
        stage: "distributed_sgd",
        manifest: folder.join("manifest.json"),
        output: &folder.join("model.safetensors"),
        depends: &DEPENDS,
        log: folder.join("distributed_sgd.log"),
    };
    let inputs = |run: &mut manifest::Run| {
        let dataset = place.dataset()?;
        run.fact("dataset_fingerprint", &dataset.fingerprint)?;
        Ok(dataset)
    };
    let done = place.perform(&job, inputs, |dataset, session| train(&place, &dataset, session))?;
    if done.is_none() {
        tracing::info!("the model is trained already: {}", folder.display());
    }
    Ok(())
}

fn train(place: &Workplace, dataset: &Dataset, session: &mut Session) -> Result<()> {
    let config = &place.config.distributed_sgd;
    let spec = ModelSpec::new(
        &place.config.model,
        dataset.channels(),
        dataset.size(),
        dataset.classes.len() as i64,
    )?;
    let outcome = over_ranks(place, config, dataset, &spec)?;
    let evaluation = evaluate(
        &|images| Ok(outcome.model.eval(images)),
        &dataset.test,
        &dataset.normalisation,
        dataset.classes.len(),
        config.eval_batch_size,
    )?;
    let card = Card {
        model: spec,
        dataset: dataset.name.clone(),
        dataset_fingerprint: dataset.fingerprint.clone(),
        classes: dataset.classes.clone(),
        normalisation: dataset.normalisation.clone(),
        label_counts: dataset.train.counts(dataset.classes.len()),
    };
    let path = session.job.output;
    weights::save(path, &outcome.model.state(), &card)?;
    session.run.output("weights", path)?;
    let metrics = metrics(config, &outcome, evaluation.accuracy());
    let metrics_path = session.companion("metrics.json");
    json::write(&metrics_path, &metrics)?;
    session.run.output("metrics", &metrics_path)?;
    let mut journal = Journal::open(place, session, &[], None)?;
    let steps_an_epoch = outcome.steps / config.epochs;
    for &at in &metrics.losses {
        journal.add(&Line {
            stage: "distributed_sgd",
            event: "loss",
            step: at.epoch * steps_an_epoch + at.batch,
            at,
        })?;
    }
    journal.finish(session)?;
    summary(&metrics)?;
    say(format!("weights:  {}", path.display()))
}

/// Every rank gets views of the images: tensors can be handed to a thread, not shared with one.
fn over_ranks(
    place: &Workplace,
    config: &DistributedSgdConfig,
    dataset: &Dataset,
    spec: &ModelSpec,
) -> Result<Outcome> {
    let settings = SgdSettings {
        epochs: config.epochs,
        batch_size: config.batch_size,
        optimizer: config.optimizer.clone(),
        augment: config.augment.clone(),
        report_every: config.report_every,
    };
    let ranks = match config.method {
        Method::Centralised => 1,
        _ => config.ranks,
    };
    let views = (0..ranks).map(|_| dataset.train.share()).collect::<Vec<_>>();
    let views = Mutex::new(views);
    let (device, seed) = (place.device, place.config.seed);
    let normalisation = &dataset.normalisation;
    let outcomes = transport::run(ranks, |mut rank| {
        let view = views.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let view = view.ok_or_else(|| Error::failed(format!("rank {} has no data", rank.rank())))?;
        let task = Task {
            spec: spec.clone(),
            device,
            train: &view,
            normalisation,
            seeds: Seeds::new(seed),
        };
        distributed_sgd::run(config.method, &settings, &task, &mut rank)
    })?;
    let first = outcomes.into_iter().flatten().next();
    first.ok_or_else(|| Error::failed("no rank has a result"))
}

fn metrics(config: &DistributedSgdConfig, outcome: &Outcome, test_accuracy: Option<f64>) -> Metrics {
    let mut traffic = Vec::new();
    for kind in [Kind::Model, Kind::Batch, Kind::Gradient] {
        for direction in [Direction::Upload, Direction::Download] {
            let amount = outcome
                .ledger
                .sum(|entry| entry.kind == kind && entry.direction == direction);
            if amount.bytes > 0 {
                traffic.push(Traffic {
                    kind,
                    direction,
                    values: amount.values,
                    bytes: amount.bytes,
                });
            }
        }
    }
    Metrics {
        method: config.method,
        ranks: if config.method == Method::Centralised {
            1
        } else {
            config.ranks
        },
        parameters: outcome.model.parameter_count(),
        steps: outcome.steps,
        losses: outcome.losses.clone(),
        test_accuracy,
        traffic,
    }
}

fn summary(metrics: &Metrics) -> Result<()> {
    let mut table = Table::new(&["epoch", "batch", "mean loss"]);
    for at in &metrics.losses {
        table.row(vec![
            at.epoch.to_string(),
            at.batch.to_string(),
            format!("{:.4}", at.loss),
        ]);
    }
    match metrics.losses.is_empty() {
        true => tracing::info!("an epoch has fewer batches than `distributed_sgd.report_every`: no losses to report"),
        false => say(&table)?,
    }
    for part in &metrics.traffic {
        say(format!("bytes: {} of {:?}, {:?}", part.bytes, part.kind, part.direction).to_lowercase())?;
    }
    say(format!("test accuracy: {}", percent(metrics.test_accuracy)))
}
