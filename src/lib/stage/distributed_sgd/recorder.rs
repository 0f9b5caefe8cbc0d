//! Listens to rank 0 of `distributed_sgd`: writes the losses as they come, saves the run.

use crate::artifact::json;
use crate::data::Dataset;
use crate::error::Result;
use crate::federated::distributed_sgd::{LossAt, Notes, Steps};
use crate::run::BestWeights;
use crate::run::Checkpointer;
use crate::run::StageContext;
use crate::run::job::Session;
use crate::run::journal::{Journal, Mark};
use crate::runtime::Progress;
use crate::train::{self, FitState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line of `metrics.jsonl`: a mean loss. `step` counts batches from the start of the run, `batch`
/// from that of the epoch.
#[derive(Serialize)]
struct Line {
    stage: &'static str,
    event: &'static str,
    step: usize,
    #[serde(flatten)]
    at: LossAt,
}

/// What a resumed run goes on with.
#[derive(Serialize, Deserialize)]
struct Saved<N> {
    course: N,
    events: Option<Mark>,
}

pub struct Recorder<'a> {
    /// Batches of an epoch.
    steps: usize,
    journal: Journal,
    saver: Checkpointer<'a>,
    progress: Progress,
}

impl<'a> Recorder<'a> {
    /// The recorder, and where an interrupted run had come to.
    pub fn open(
        context: &StageContext,
        dataset: &Dataset,
        session: &Session<'a>,
    ) -> Result<(Self, Option<(FitState, Notes)>)> {
        let config = &context.config.distributed_sgd;
        let steps = train::steps(dataset.train.len(), config.batch_size);
        let saver = Checkpointer::new(context, session.checkpoints);
        let (start, events) = match saver.load::<Saved<Notes>>()? {
            Some(resumed) => (
                Some((resumed.fit, resumed.notes.course)),
                resumed.notes.events,
            ),
            None => (None, None),
        };
        let losses = start.iter().flat_map(|(_, notes)| notes.losses());
        let lines: Vec<Value> = losses
            .map(|&at| json::value(&line(steps, at)))
            .collect::<Result<_>>()?;
        let progress = Progress::new(
            "stochastic gradient descent",
            (steps * config.epochs) as u64,
        );
        progress.add(
            start
                .as_ref()
                .map_or(0, |(fit, _)| fit.position.optimizer_steps as u64),
        );
        let recorder = Self {
            steps,
            journal: Journal::open(context, session, &lines, events.as_ref())?,
            saver,
            progress,
        };
        Ok((recorder, start))
    }

    /// The journal, to be closed.
    pub fn finish(self) -> Journal {
        self.journal
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

impl Steps for Recorder<'_> {
    fn step(&self) {
        self.progress.step();
    }

    fn loss(&mut self, at: LossAt) -> Result<()> {
        let LossAt { epoch, batch, loss } = at;
        tracing::info!("epoch {epoch}, batch {batch}: loss {loss:.4}");
        self.progress
            .message(format!("epoch {epoch}, loss {loss:.3}"));
        self.journal.add(&line(self.steps, at))
    }

    fn due(&self) -> bool {
        self.saver.due()
    }

    fn save(&mut self, state: &FitState, notes: &Notes) -> Result<()> {
        let saved = Saved {
            course: notes,
            events: self.journal.mark()?,
        };
        self.saver.save(state, &BestWeights::default(), &saved)
    }
}
