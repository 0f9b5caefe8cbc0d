//! Records the losses that rank 0 of `distributed_sgd` reports, and saves the run.

use crate::artifact::json;
use crate::data::Dataset;
use crate::error::Error;
use crate::federated::distributed_sgd::LossAt;
use crate::model::Model;
use crate::run::BestWeights;
use crate::run::Checkpointer;
use crate::run::StageContext;
use crate::run::job::Session;
use crate::run::journal::{EventPosition, Journal};
use crate::runtime::Progress;
use crate::train::{self, Callback, FitState};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Holds a line of `metrics.jsonl`: a mean loss. `step` counts batches from the start of the run,
/// `batch` from that of the epoch.
#[derive(Serialize)]
struct Line {
    stage: &'static str,
    event: &'static str,
    step: usize,
    #[serde(flatten)]
    at: LossAt,
}

/// Holds what a resumed run begins with, beside the weights.
#[derive(Default, Serialize, Deserialize)]
struct Notes {
    losses: Vec<LossAt>,
    events: Option<EventPosition>,
}

/// Records the losses of a run.
pub struct Recorder<'a> {
    /// Batches of an epoch.
    steps: usize,
    losses: Vec<LossAt>,
    journal: Journal,
    checkpointer: Checkpointer<'a>,
    progress: Progress,
}

impl<'a> Recorder<'a> {
    /// Returns the recorder, and the state from which an interrupted run resumes.
    ///
    /// # Errors
    /// Fails when the checkpoint is of another run, and when a file cannot be written.
    pub fn open(
        context: &StageContext,
        dataset: &Dataset,
        session: &Session<'a>,
    ) -> Result<(Self, Option<FitState>)> {
        let config = &context.config.distributed_sgd;
        let steps = train::steps(dataset.train.len(), config.settings.batch_size);
        let checkpointer = Checkpointer::new(context, session.checkpoints);
        let (start, notes) = match checkpointer.load::<Notes>("epoch", 1)? {
            Some(resumed) => (Some(resumed.fit), resumed.notes),
            None => (None, Notes::default()),
        };
        let Notes { losses, events } = notes;
        let lines = losses.iter().map(|&at| json::value(&line(steps, at)));
        let lines: Vec<Value> = lines.collect::<Result<_, Error>>()?;
        let progress = Progress::new(
            "stochastic gradient descent",
            steps.saturating_mul(config.settings.epochs) as u64,
        );
        progress.skip(
            start
                .as_ref()
                .map_or(0, |fit| fit.position.optimizer_steps as u64),
        );
        let recorder = Self {
            steps,
            losses,
            journal: Journal::open(context, session, &lines, events.as_ref())?,
            checkpointer,
            progress,
        };
        Ok((recorder, start))
    }

    /// Returns all mean losses, and the journal, to be closed.
    pub fn finish(self) -> (Vec<LossAt>, Journal) {
        (self.losses, self.journal)
    }
}

fn line(steps: usize, at: LossAt) -> Line {
    Line {
        stage: "distributed_sgd",
        event: "loss",
        step: at.epoch * steps + at.batch,
        at,
    }
}

impl Callback<LossAt> for Recorder<'_> {
    fn step(&mut self) {
        self.progress.step();
    }

    fn report(&mut self, _: Option<&Model>, at: &LossAt) -> Result<(), Error> {
        let LossAt { epoch, batch, loss } = *at;
        tracing::info!("epoch {}, batch {batch}: loss {loss:.4}", epoch + 1);
        self.progress
            .message(format!("epoch {}, loss {loss:.3}", epoch + 1));
        self.losses.push(*at);
        Ok(self.journal.add(&line(self.steps, *at))?)
    }

    fn due(&self) -> bool {
        self.checkpointer.due()
    }

    fn save(&mut self, state: &FitState) -> Result<(), Error> {
        let notes = Notes {
            losses: self.losses.clone(),
            events: self.journal.event_position()?,
        };
        Ok(self
            .checkpointer
            .save(state, &BestWeights::default(), &notes)?)
    }
}
