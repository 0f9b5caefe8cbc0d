//! Records a baseline of many rounds: a line for each round as it comes, the progress, and
//! checkpoints.

use super::StageContext;
use super::best_weights::BestWeights;
use super::checkpointer::Checkpointer;
use super::job::Session;
use super::journal::{EventPosition, Journal};
use super::metrics::{Course, NodeLine, RoundLine};
use crate::artifact::json;
use crate::error::Error;
use crate::runtime::Progress;
use crate::train::FitState;
use anyhow::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

/// Holds a line of `metrics.jsonl`.
#[derive(Serialize)]
struct Line<'a, M, N> {
    stage: &'static str,
    event: &'static str,
    step: usize,
    #[serde(flatten)]
    round: &'a RoundLine<M, N>,
}

/// Names the tensor of a checkpoint that has the lines of all rounds, as bytes: there may be many
/// thousands, and as notes they would take many times their length while they are written.
const LINES: &str = "metrics";

/// Holds what a checkpoint has beside the run's state.
#[derive(Serialize, Deserialize)]
struct Notes {
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
    /// with the progress; `steps` are those of each round, which count from `first`.
    ///
    /// # Errors
    /// Fails when the checkpoint is of another run, and when a file cannot be written.
    pub fn open(
        context: &StageContext,
        session: &Session<'a>,
        title: &str,
        first: usize,
        steps: Vec<u64>,
    ) -> Result<(Self, Option<FitState>)> {
        let stage = session.job.stage.name;
        let checkpointer = Checkpointer::new(context, session.checkpoints);
        let (start, lines, events) = match checkpointer.load::<Notes>("round", first)? {
            Some(mut resumed) => {
                let lines = saved_lines(&mut resumed.fit)?;
                (Some(resumed.fit), lines, resumed.notes.events)
            }
            None => (None, Vec::new(), None),
        };
        let rounds = lines.iter().map(RoundLine::deserialize);
        let rounds: Vec<_> = rounds.collect::<Result<_, _>>().map_err(not_rounds)?;
        let progress = Progress::new(title, sum(&steps));
        progress.skip(sum(&steps[..rounds.len().min(steps.len())]));
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
            events: self.journal.event_position()?,
        };
        let lines = Tensor::from_slice(self.journal.text().as_bytes());
        let mut state = state.share();
        state.tensors.push((LINES.to_owned(), lines));
        self.checkpointer
            .save(&state, &BestWeights::default(), &notes)
    }

    /// Returns all rounds, and the journal, to be closed.
    pub fn finish(self, test_accuracy: fn(&M) -> Option<f64>) -> (Course<M, N>, Journal) {
        (Course::new(self.rounds, test_accuracy), self.journal)
    }
}

/// Takes the lines of the rounds out of a saved state.
fn saved_lines(state: &mut FitState) -> Result<Vec<Value>, Error> {
    let at = state.tensors.iter().position(|(name, _)| name == LINES);
    let at = at.ok_or_else(|| Error::failed("the checkpoint has no metrics of its rounds"))?;
    let (_, bytes) = state.tensors.swap_remove(at);
    let bytes = Vec::<u8>::try_from(bytes.flatten(0, -1))?;
    let lines = bytes.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).map_err(not_rounds))
        .collect()
}

fn not_rounds(error: serde_json::Error) -> Error {
    Error::failed("the metrics of the checkpoint's rounds cannot be read").caused_by(error)
}

fn line<'a, M, N>(stage: &'static str, round: &'a RoundLine<M, N>) -> Line<'a, M, N> {
    Line {
        stage,
        event: "round",
        step: round.round,
        round,
    }
}

/// Returns the sum of numbers of steps, or the largest number where it is beyond that.
fn sum(steps: &[u64]) -> u64 {
    steps.iter().copied().fold(0, u64::saturating_add)
}
