//! Listens to the server of `fed_avg`: evaluates the global model, writes the metrics as they come, saves the run.

use super::super::Workplace;
use super::super::job::Session;
use super::super::journal::{Journal, Mark};
use super::super::kept::Kept;
use super::super::saved::Saver;
use super::super::{percent, test, test_on};
use crate::artifact::json;
use crate::config::schema::FedAvgConfig;
use crate::data::Dataset;
use crate::error::Result;
use crate::federated::fed_avg::{Federation, NodeReport, RoundReport, Rounds, Statistics, selected};
use crate::federated::{Direction, Traffic};
use crate::model::Model;
use crate::runtime::Progress;
use crate::train::{self, FitState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::Cell;

/// After a round. Accuracies are shares, 0..1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundLine {
    /// Rounds that are complete, from 1.
    pub round: usize,
    /// Means over the round's nodes, weighted by their training images: of their last epoch's training passes, and of their own models on
    /// their own test images.
    pub train_loss: f64,
    pub train_accuracy: f64,
    pub own_test_accuracy: Option<f64>,
    /// Of the global model on the whole test set; `None` in rounds without evaluation, and where nodes keep their statistics.
    pub test_accuracy: Option<f64>,
    /// The same on the training images of all nodes, those of this round and the others; `None` without `fed_avg.eval_train`.
    pub global_train_accuracy: Option<f64>,
    /// In this round, as serialised.
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub nodes: Vec<NodeLine>,
}

/// A node's part in a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeLine {
    #[serde(flatten)]
    pub report: NodeReport,
    pub traffic: Vec<Traffic>,
}

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    stage: &'static str,
    event: &'static str,
    step: usize,
    #[serde(flatten)]
    round: &'a RoundLine,
}

/// `metrics.json`.
#[derive(Debug, Serialize)]
pub struct Metrics {
    pub parameters: u64,
    /// Of the state dict: what one transfer carries, framing aside.
    pub model_bytes: u64,
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub final_test_accuracy: Option<f64>,
    pub best_test_accuracy: Option<f64>,
    pub rounds: Vec<RoundLine>,
}

/// What a resumed run goes on with.
#[derive(Default, Serialize, Deserialize)]
struct Notes {
    rounds: Vec<RoundLine>,
    events: Option<Mark>,
}

pub struct Recorder<'a> {
    config: &'a FedAvgConfig,
    dataset: &'a Dataset,
    federation: &'a Federation<'a>,
    rounds: Vec<RoundLine>,
    journal: Journal,
    saver: Saver<'a>,
    progress: Progress,
    /// Steps of the round in hand on this rank; the others' are added at its end.
    stepped: Cell<u64>,
    /// Steps of each round.
    steps: Vec<u64>,
}

fn line(round: &RoundLine) -> Line<'_> {
    Line {
        stage: "fed_avg",
        event: "round",
        step: round.round,
        round,
    }
}

impl<'a> Recorder<'a> {
    /// The recorder, and where an interrupted run had come to.
    pub(in super::super) fn open(
        place: &'a Workplace,
        dataset: &'a Dataset,
        federation: &'a Federation<'a>,
        session: &Session<'a>,
    ) -> Result<(Self, Option<FitState>)> {
        let config = &place.config.fed_avg;
        let saver = Saver::new(place, session.checkpoints);
        let (start, Notes { rounds, events }) = match saver.load::<Notes>()? {
            Some(resumed) => (Some(resumed.fit), resumed.notes),
            None => (None, Notes::default()),
        };
        let lines: Vec<Value> = rounds
            .iter()
            .map(|round| json::value(&line(round)))
            .collect::<Result<_>>()?;
        let steps: Vec<u64> = (0..config.rounds)
            .map(|round| steps(config, federation, round))
            .collect();
        let progress = Progress::new("federated averaging", steps.iter().sum());
        progress.add(steps.iter().take(rounds.len()).sum());
        let recorder = Self {
            config,
            dataset,
            federation,
            journal: Journal::open(place, session, &lines, events.as_ref())?,
            rounds,
            saver,
            progress,
            stepped: Cell::new(0),
            steps,
        };
        Ok((recorder, start))
    }

    /// What `metrics.json` will hold, and the journal, to be closed.
    pub fn finish(self, model: &Model) -> (Metrics, Journal) {
        let sum = |of: fn(&RoundLine) -> u64| self.rounds.iter().map(of).sum();
        let tested = self.rounds.iter().filter_map(|round| round.test_accuracy);
        let metrics = Metrics {
            parameters: model.parameter_count(),
            model_bytes: model.state().bytes(),
            upload_bytes: sum(|round| round.upload_bytes),
            download_bytes: sum(|round| round.download_bytes),
            final_test_accuracy: self.rounds.last().and_then(|round| round.test_accuracy),
            best_test_accuracy: tested.max_by(f64::total_cmp),
            rounds: self.rounds,
        };
        (metrics, self.journal)
    }

    /// Whether the global model is evaluated after `round` rounds.
    fn evaluates(&self, model: &Model, round: usize) -> bool {
        let due = round.is_multiple_of(self.config.eval_every) || round == self.config.rounds;
        due && (self.config.statistics == Statistics::Average || model.batch_norms() == 0)
    }

    fn test(&self, model: &Model, round: usize) -> Result<Option<f64>> {
        match self.evaluates(model, round) {
            true => Ok(test(model, self.dataset, self.config.eval_batch_size)?.accuracy()),
            false => Ok(None),
        }
    }

    /// On all nodes' training images.
    fn test_on_train(&self, model: &Model, round: usize) -> Result<Option<f64>> {
        if !self.config.eval_train || !self.evaluates(model, round) {
            return Ok(None);
        }
        let (mut correct, mut images) = (0.0, 0);
        for node in &self.federation.nodes {
            let evaluation = test_on(model, &node.train, self.dataset, self.config.eval_batch_size)?;
            correct += evaluation.accuracy().unwrap_or(0.0) * node.train.len() as f64;
            images += node.train.len();
        }
        Ok(Some(correct / images as f64))
    }
}

/// Batches of all nodes in a round.
fn steps(config: &FedAvgConfig, federation: &Federation, round: usize) -> u64 {
    let of = |node: usize| {
        let images = federation.nodes[node].train.len();
        config.epochs * train::steps(images, config.batch_size.unwrap_or(images))
    };
    let nodes = selected(&federation.seeds, round, federation.nodes.len(), config.fraction);
    nodes.into_iter().map(of).sum::<usize>() as u64
}

fn node_line(report: &NodeReport, round: &RoundReport) -> NodeLine {
    NodeLine {
        report: report.clone(),
        traffic: round.ledger.traffic(|entry| entry.node == report.node),
    }
}

/// Mean over the nodes that have test images, weighted by training images as the other means are.
fn own_test(report: &RoundReport) -> Option<f64> {
    let tested = || {
        report
            .nodes
            .iter()
            .filter_map(|node| Some((node.own_test_accuracy?, node.images as f64)))
    };
    let images: f64 = tested().map(|(_, images)| images).sum();
    (images > 0.0).then(|| tested().map(|(accuracy, images)| accuracy * images).sum::<f64>() / images)
}

impl Rounds for Recorder<'_> {
    fn step(&self) {
        self.progress.step();
        self.stepped.set(self.stepped.get() + 1);
    }

    fn round(&mut self, model: &Model, report: &RoundReport) -> Result<()> {
        let bytes = |direction| report.ledger.sum(|entry| entry.direction == direction).bytes;
        let round = RoundLine {
            round: report.round + 1,
            train_loss: report.mean(|node| node.train_loss),
            train_accuracy: report.mean(|node| node.train_accuracy),
            own_test_accuracy: own_test(report),
            test_accuracy: self.test(model, report.round + 1)?,
            global_train_accuracy: self.test_on_train(model, report.round + 1)?,
            upload_bytes: bytes(Direction::Upload),
            download_bytes: bytes(Direction::Download),
            nodes: report.nodes.iter().map(|node| node_line(node, report)).collect(),
        };
        let steps = self.steps.get(report.round).copied().unwrap_or(0);
        self.progress.add(steps.saturating_sub(self.stepped.take()));
        self.progress.message(format!(
            "round {}, loss {:.3}, test {}",
            round.round,
            round.train_loss,
            percent(round.test_accuracy)
        ));
        self.journal.add(&line(&round))?;
        self.rounds.push(round);
        Ok(())
    }

    fn due(&self) -> bool {
        self.saver.due()
    }

    fn save(&mut self, state: &FitState) -> Result<()> {
        let notes = Notes {
            rounds: self.rounds.clone(),
            events: self.journal.mark()?,
        };
        self.saver.save(state, &Kept::default(), &notes)
    }
}
