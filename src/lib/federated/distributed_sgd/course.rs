//! A rank's course through the run: batch after batch and epoch after epoch, the mean losses on the
//! way, and all that a run which was stopped needs to go on. What a step does is the business of
//! [`Rank`]; only rank 0 talks to the observer and saves.

use super::rank::Rank;
use super::settings::{Method, SgdSettings, Task};
use super::{Outcome, Steps};
use crate::error::{Error, Result};
use crate::federated::ledger::Ledger;
use crate::federated::link::Link;
use crate::runtime::interrupt;
use crate::train::{BatchSource, FitState, Position, Shuffled};
use serde::{Deserialize, Serialize};

/// Mean loss of the `report_every` batches that end with batch `batch` (counted from 1) of an epoch
/// (from 0).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossAt {
    pub epoch: usize,
    pub batch: usize,
    pub loss: f64,
}

/// What a saved run goes on with beside the tensors of its [`FitState`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Notes {
    /// Since the last mean loss.
    sum: f64,
    losses: Vec<LossAt>,
    /// Of whole steps.
    ledger: Ledger,
}

impl Notes {
    /// The mean losses so far.
    pub fn losses(&self) -> &[LossAt] {
        &self.losses
    }
}

/// A run in progress. Between steps it is whole: [`Course::save`] takes all there is to it.
pub(super) struct Course<'a> {
    settings: &'a SgdSettings,
    task: &'a Task<'a>,
    rank: Rank<'a>,
    at: Position,
    notes: Notes,
}

impl<'a> Course<'a> {
    /// At the first batch, or where the run of rank 0's `start` goes on.
    pub fn begin(
        method: Method,
        settings: &'a SgdSettings,
        task: &'a Task<'a>,
        link: Link<'a>,
        start: Option<(FitState, Notes)>,
    ) -> Result<Self> {
        let (state, notes) = start.unzip();
        let notes = notes.unwrap_or_default();
        let (rank, at) = Rank::begin(method, settings, task, link, state)?;
        Ok(Self {
            settings,
            task,
            rank,
            at,
            notes,
        })
    }

    /// Whether this is rank 0.
    pub fn leads(&self) -> bool {
        self.rank.link.is_server()
    }

    /// Takes all steps that are left.
    pub fn train(&mut self, observer: &mut dyn Steps) -> Result<()> {
        let mut source = Shuffled::new(
            self.task.train,
            self.task.normalisation,
            self.settings.augment.clone(),
            self.settings.batch_size,
            self.task.seeds,
            "distributed_sgd/batches".into(),
        );
        while self.at.epoch < self.settings.epochs {
            let steps = source.begin_at(&self.at)?;
            while self.at.step < steps {
                self.at.drawn = source.drawn();
                interrupt::check()?;
                if self.leads() && observer.due() {
                    self.save(observer)?;
                }
                let loss = self.rank.take_step(self.at.step, &mut source)?;
                self.at.step += 1;
                self.notes.ledger.fold(&self.rank.link.take_ledger());
                self.note(loss, observer)?;
                observer.step();
            }
            self.notes.sum = 0.0;
            self.at = self.at.next_epoch();
        }
        Ok(())
    }

    /// Adds the loss of the step just taken.
    fn note(&mut self, loss: f64, observer: &mut dyn Steps) -> Result<()> {
        let (epoch, batch, every) = (self.at.epoch, self.at.step, self.settings.report_every);
        if !loss.is_finite() {
            return Err(Error::failed(format!(
                "the training loss became NaN or infinite in epoch {epoch}, batch {batch}"
            ))
            .hint("lower the learning rate (`optimizer.lr`)"));
        }
        self.notes.sum += loss;
        if batch % every == 0 {
            let loss = self.notes.sum / every as f64;
            let at = LossAt { epoch, batch, loss };
            self.notes.losses.push(at);
            self.notes.sum = 0.0;
            if self.leads() {
                observer.loss(at)?;
            }
        }
        Ok(())
    }

    /// Hands the run to rank 0's observer.
    pub fn save(&self, observer: &mut dyn Steps) -> Result<()> {
        observer.save(
            &self.rank.optimizer.state(&self.rank.model, self.at),
            &self.notes,
        )
    }

    /// What rank 0 has in the end.
    pub fn end(self) -> Outcome {
        Outcome {
            ledger: self.notes.ledger,
            model: self.rank.model,
            steps: self.rank.steps,
            losses: self.notes.losses,
        }
    }
}
