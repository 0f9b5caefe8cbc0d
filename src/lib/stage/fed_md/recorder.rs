//! Listens to the server of `fed_md`: writes the metrics as they come, saves the run.

use super::super::Workplace;
use super::super::job::Session;
use super::super::journal::{Journal, Mark};
use super::super::kept::Kept;
use super::super::percent;
use super::super::saved::Saver;

use super::federation::{Party, Roles};
use crate::artifact::json;
use crate::error::Result;
use crate::federated::fed_md::{Client, FedMdSettings, Federation, NodeReport, RoundReport, Rounds, steps};
use crate::federated::{Direction, Traffic};
use crate::runtime::Progress;
use crate::train::FitState;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::Cell;

/// After a round. Accuracies are shares, 0..1; what has no node is the mean over the clients that have it, unweighted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundLine {
    /// Rounds that are complete, from 1; 0 is transfer learning.
    pub round: usize,
    pub digest_loss: Option<f64>,
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub local_accuracy: Option<f64>,
    pub public_accuracy: Option<f64>,
    pub own_test_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    /// In this round, as serialised.
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub nodes: Vec<NodeLine>,
}

/// A client's part in a round.
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
    pub clients: Vec<ClientNote>,
    /// The public set, which everyone holds from the start: its bytes are in no sum.
    pub public_images: usize,
    pub public_bytes: u64,
    /// Of them in a round.
    pub public_samples: usize,
    pub classes: i64,
    pub upload_bytes: u64,
    pub download_bytes: u64,
    /// Means over the clients.
    pub final_test_accuracy: Option<f64>,
    pub best_test_accuracy: Option<f64>,
    pub rounds: Vec<RoundLine>,
}

/// Who a client is.
#[derive(Clone, Debug, Serialize)]
pub struct ClientNote {
    pub node: usize,
    pub model: &'static str,
    pub parameters: u64,
    pub images: usize,
}

/// What a resumed run goes on with.
#[derive(Default, Serialize, Deserialize)]
struct Notes {
    rounds: Vec<RoundLine>,
    events: Option<Mark>,
}

pub struct Recorder<'a> {
    settings: &'a FedMdSettings,
    federation: &'a Federation<'a>,
    clients: Vec<ClientNote>,
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
        stage: "fed_md",
        event: "round",
        step: round.round,
        round,
    }
}

impl<'a> Recorder<'a> {
    /// The recorder, and where an interrupted run had come to.
    pub(in super::super) fn open(
        place: &Workplace,
        roles: &Roles,
        settings: &'a FedMdSettings,
        federation: &'a Federation<'a>,
        session: &Session<'a>,
    ) -> Result<(Self, Option<FitState>)> {
        let saver = Saver::new(place, session.checkpoints);
        let (start, Notes { rounds, events }) = match saver.load::<Notes>()? {
            Some(resumed) => (Some(resumed.fit), resumed.notes),
            None => (None, Notes::default()),
        };
        let lines: Vec<Value> = rounds
            .iter()
            .map(|round| json::value(&line(round)))
            .collect::<Result<_>>()?;
        let batches = |round| {
            let clients = 0..federation.clients.len();
            clients
                .map(|index| steps(settings, federation, index, round) as u64)
                .sum()
        };
        let steps: Vec<u64> = (0..=settings.rounds).map(batches).collect();
        let progress = Progress::new("federated distillation", steps.iter().sum());
        progress.add(steps.iter().take(rounds.len()).sum());
        let recorder = Self {
            settings,
            federation,
            clients: roles.parties.iter().map(|party| note(party, federation)).collect(),
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
    pub fn finish(self) -> (Metrics, Journal) {
        let sum = |of: fn(&RoundLine) -> u64| self.rounds.iter().map(of).sum();
        let public = self.federation.public;
        let metrics = Metrics {
            clients: self.clients,
            public_images: public.len(),
            public_bytes: public.images.numel() as u64,
            public_samples: self.settings.samples(public.len()),
            classes: self.federation.clients[0].spec.classes,
            upload_bytes: sum(|round| round.upload_bytes),
            download_bytes: sum(|round| round.download_bytes),
            final_test_accuracy: self.rounds.last().and_then(|round| round.test_accuracy),
            best_test_accuracy: self
                .rounds
                .iter()
                .filter_map(|round| round.test_accuracy)
                .max_by(f64::total_cmp),
            rounds: self.rounds,
        };
        (metrics, self.journal)
    }

    /// A curve for each client, beside those of the means.
    fn curves(&mut self, round: &RoundLine) -> Result<()> {
        for NodeLine { report, .. } in &round.nodes {
            for (name, value) in [
                ("local_accuracy", report.local_accuracy),
                ("public_accuracy", report.public_accuracy),
                ("test_accuracy", report.test_accuracy),
            ] {
                if let Some(value) = value {
                    let tag = format!("node{}/{name}", report.node);
                    self.journal.scalar(&tag, round.round as i64, value)?;
                }
            }
        }
        Ok(())
    }
}

fn note(party: &Party, federation: &Federation) -> ClientNote {
    let images = |client: &Client| (client.node == party.node).then(|| client.data.train.len());
    ClientNote {
        node: party.node,
        model: party.spec.model.kind.name(),
        parameters: party.parameters,
        images: federation.clients.iter().find_map(images).unwrap_or(0),
    }
}

/// Mean over the clients that have the number.
fn mean(nodes: &[NodeReport], of: fn(&NodeReport) -> Option<f64>) -> Option<f64> {
    let numbers: Vec<f64> = nodes.iter().filter_map(of).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

impl Rounds for Recorder<'_> {
    fn step(&self) {
        self.progress.step();
        self.stepped.set(self.stepped.get() + 1);
    }

    fn round(&mut self, report: &RoundReport) -> Result<()> {
        let bytes = |direction| report.ledger.sum(|entry| entry.direction == direction).bytes;
        let nodes = &report.nodes;
        let node_line = |node: &NodeReport| NodeLine {
            report: node.clone(),
            traffic: report.ledger.traffic(|entry| entry.node == node.node),
        };
        let round = RoundLine {
            round: report.round,
            digest_loss: mean(nodes, |node| node.digest_loss),
            train_loss: mean(nodes, |node| node.train_loss),
            train_accuracy: mean(nodes, |node| node.train_accuracy),
            local_accuracy: mean(nodes, |node| node.local_accuracy),
            public_accuracy: mean(nodes, |node| node.public_accuracy),
            own_test_accuracy: mean(nodes, |node| node.own_test_accuracy),
            test_accuracy: mean(nodes, |node| node.test_accuracy),
            upload_bytes: bytes(Direction::Upload),
            download_bytes: bytes(Direction::Download),
            nodes: nodes.iter().map(node_line).collect(),
        };
        let steps = self.steps.get(report.round).copied().unwrap_or(0);
        self.progress.add(steps.saturating_sub(self.stepped.take()));
        self.progress
            .message(format!("round {}, test {}", round.round, percent(round.test_accuracy)));
        self.curves(&round)?;
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
