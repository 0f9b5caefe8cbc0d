//! Records what the baselines of many rounds have in common: a line for each round with its bytes,
//! the progress, and checkpoints.

use super::StageContext;
use super::best_weights::BestWeights;
use super::checkpointer::Checkpointer;
use super::job::Session;
use super::journal::{EventPosition, Journal};
use crate::artifact::json;
use crate::error::Error;
use crate::federated::{Direction, Ledger, Traffic};
use crate::runtime::Progress;
use crate::train::FitState;
use anyhow::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Holds what a node reports of a round, and the bytes it sent and received.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeLine<N> {
    #[serde(flatten)]
    pub report: N,
    pub traffic: Vec<Traffic>,
}

/// Is the line of a round, with the algorithm's own means over its nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundLine<M, N> {
    /// Rounds that are complete.
    pub round: usize,
    #[serde(flatten)]
    pub means: M,
    /// In this round, as serialised.
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub nodes: Vec<NodeLine<N>>,
}

impl<M, N: Clone> RoundLine<M, N> {
    /// Returns the line of the nodes' `reports` and their traffic in `ledger`; `node` returns the
    /// number of a report's node.
    pub fn new(
        round: usize,
        means: M,
        reports: &[N],
        node: fn(&N) -> usize,
        ledger: &Ledger,
    ) -> Self {
        let bytes = |direction| ledger.sum(|entry| entry.direction == direction).bytes;
        let line = |report: &N| NodeLine {
            report: report.clone(),
            traffic: ledger.traffic(|entry| entry.node == node(report)),
        };
        Self {
            round,
            means,
            upload_bytes: bytes(Direction::Upload),
            download_bytes: bytes(Direction::Download),
            nodes: reports.iter().map(line).collect(),
        }
    }
}

/// Holds all rounds, as `metrics.json` has them.
#[derive(Debug, Serialize)]
pub struct Course<M, N> {
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub final_test_accuracy: Option<f64>,
    pub best_test_accuracy: Option<f64>,
    pub rounds: Vec<RoundLine<M, N>>,
}

impl<M, N> Course<M, N> {
    fn new(rounds: Vec<RoundLine<M, N>>, test_accuracy: fn(&M) -> Option<f64>) -> Self {
        let tested = |line: &RoundLine<M, N>| test_accuracy(&line.means);
        let (upload_bytes, download_bytes) = bytes(&rounds);
        Self {
            upload_bytes,
            download_bytes,
            final_test_accuracy: rounds.last().and_then(tested),
            // FedMD's round 0 is before anything was sent: its accuracy is not FedMD's.
            best_test_accuracy: rounds
                .iter()
                .filter(|line| line.round > 0)
                .filter_map(tested)
                .max_by(f64::total_cmp),
            rounds,
        }
    }

    /// Returns the bytes uploaded and downloaded in the first `lines`.
    pub fn bytes_of_first(&self, lines: usize) -> (u64, u64) {
        bytes(&self.rounds[..lines])
    }
}

fn bytes<M, N>(lines: &[RoundLine<M, N>]) -> (u64, u64) {
    let up = lines.iter().map(|line| line.upload_bytes).sum();
    (up, lines.iter().map(|line| line.download_bytes).sum())
}

/// Is a line of `metrics.jsonl`.
#[derive(Serialize)]
struct Line<'a, M, N> {
    stage: &'static str,
    event: &'static str,
    step: usize,
    #[serde(flatten)]
    round: &'a RoundLine<M, N>,
}

/// Is what a checkpoint holds beside the run's state.
#[derive(Serialize, Deserialize)]
struct Notes<M, N> {
    rounds: Vec<RoundLine<M, N>>,
    events: Option<EventPosition>,
}

/// Records the rounds of a run as they are done.
pub struct Log<'a, M, N> {
    stage: &'static str,
    journal: Journal,
    rounds: Vec<RoundLine<M, N>>,
    checkpointer: Checkpointer<'a>,
    progress: Progress,
    /// Steps of each round, on all ranks.
    steps: Vec<u64>,
    /// Steps of the current round on this rank; the others' are added at its end.
    stepped: u64,
}

impl<'a, M: Clone + Serialize + DeserializeOwned, N: Clone + Serialize + DeserializeOwned>
    Log<'a, M, N>
{
    /// Returns the record, and the state from which an interrupted run resumes. `title` is shown
    /// with the progress; `steps` are those of each round.
    ///
    /// # Errors
    /// Fails when the checkpoint is of another run, and when a file cannot be written.
    pub fn open(
        context: &StageContext,
        session: &Session<'a>,
        title: &str,
        steps: Vec<u64>,
    ) -> Result<(Self, Option<FitState>)> {
        let stage = session.job.stage.name;
        let checkpointer = Checkpointer::new(context, session.checkpoints);
        let (start, rounds, events) = match checkpointer.load::<Notes<M, N>>()? {
            Some(resumed) => (
                Some(resumed.fit),
                resumed.notes.rounds,
                resumed.notes.events,
            ),
            None => (None, Vec::new(), None),
        };
        let lines = rounds.iter().map(|round| json::value(&line(stage, round)));
        let lines: Vec<Value> = lines.collect::<Result<_, Error>>()?;
        let progress = Progress::new(title, steps.iter().sum());
        progress.add(steps.iter().take(rounds.len()).sum());
        let log = Self {
            stage,
            journal: Journal::open(context, session, &lines, events.as_ref())?,
            rounds,
            checkpointer,
            progress,
            steps,
            stepped: 0,
        };
        Ok((log, start))
    }

    /// Counts a batch on this rank.
    pub fn step(&mut self) {
        self.progress.step();
        self.stepped += 1;
    }

    /// Adds a round with a curve for each node, and shows `message`.
    ///
    /// # Errors
    /// Fails when a number is not finite, and when the disk is full.
    pub fn add(&mut self, round: RoundLine<M, N>, message: String) -> Result<()> {
        let steps = self.steps.get(self.rounds.len()).copied().unwrap_or(0);
        self.progress
            .add(steps.saturating_sub(std::mem::take(&mut self.stepped)));
        self.progress.message(message);
        self.journal.add(&line(self.stage, &round))?;
        round
            .nodes
            .iter()
            .try_for_each(|node| self.curves(round.round, node))?;
        self.rounds.push(round);
        Ok(())
    }

    /// Adds a node's accuracies as curves: `node3/test_accuracy`.
    fn curves(&mut self, round: usize, node: &NodeLine<N>) -> Result<()> {
        let report = json::value(&node.report)?;
        for (key, value) in report.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64().filter(|_| key.ends_with("_accuracy")) {
                let tag = format!("node{}/{key}", report["node"]);
                self.journal.scalar(&tag, round as i64, value)?;
            }
        }
        Ok(())
    }

    /// Returns true if it is time to save the run.
    pub fn due(&self) -> bool {
        self.checkpointer.due()
    }

    /// Saves the run.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn save(&mut self, state: &FitState) -> Result<()> {
        let notes = Notes {
            rounds: self.rounds.clone(),
            events: self.journal.event_position()?,
        };
        self.checkpointer
            .save(state, &BestWeights::default(), &notes)
    }

    /// Returns all rounds, and the journal, to be closed.
    pub fn finish(self, test_accuracy: fn(&M) -> Option<f64>) -> (Course<M, N>, Journal) {
        (Course::new(self.rounds, test_accuracy), self.journal)
    }
}

fn line<'a, M, N>(stage: &'static str, round: &'a RoundLine<M, N>) -> Line<'a, M, N> {
    Line {
        stage,
        event: "round",
        step: round.round,
        round,
    }
}
