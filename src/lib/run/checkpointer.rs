//! Saves a training run in a checkpoint and loads it: the state of `fit`, the weights that will be
//! saved, and the notes of the stage.

use super::StageContext;
use super::best_weights::{BestWeights, BestWeightsNotes};
use crate::run::checkpoint::Checkpoints;
use crate::train::{FitState, Position};
use anyhow::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::time::{Duration, Instant};
use tch::Tensor;

/// Names the file.
const NAME: &str = "training";

/// Holds the state in the file; the tensors beside it are those of the first two fields.
#[derive(Serialize, Deserialize)]
struct Content<N> {
    position: Position,
    #[serde(rename = "kept")]
    best: BestWeightsNotes,
    notes: N,
}

/// Holds what a run resumes from.
pub struct Resumed<N> {
    pub fit: FitState,
    pub best: BestWeights,
    pub notes: N,
}

/// Saves a training run every `checkpoint.every` seconds.
pub struct Checkpointer<'a> {
    checkpoints: &'a Checkpoints,
    every: Duration,
    last: Cell<Instant>,
}

impl<'a> Checkpointer<'a> {
    /// Returns the checkpointer of a run; the time to the first checkpoint starts now.
    pub fn new(context: &StageContext, checkpoints: &'a Checkpoints) -> Self {
        Self {
            checkpoints,
            every: Duration::try_from_secs_f64(context.config.checkpoint.every)
                .unwrap_or(Duration::MAX),
            last: Cell::new(Instant::now()),
        }
    }

    /// Returns true when the time between two checkpoints is over.
    pub fn due(&self) -> bool {
        self.last.get().elapsed() >= self.every
    }

    /// Replaces the checkpoint.
    ///
    /// # Errors
    /// Fails when a number is not finite, and when the file cannot be written.
    pub fn save(&self, fit: &FitState, best: &BestWeights, notes: &impl Serialize) -> Result<()> {
        let content = Content {
            position: fit.position,
            best: best.notes(),
            notes,
        };
        let mut tensors: Vec<(&str, &Tensor)> = fit
            .tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let best = best.tensors();
        tensors.extend(best.iter());
        self.checkpoints.write(NAME, &content, &tensors)?;
        self.last.set(Instant::now());
        tracing::debug!(
            "saved epoch {}, step {}",
            fit.position.epoch + 1,
            fit.position.step
        );
        Ok(())
    }

    /// Returns what an earlier process saved of this run, whose `unit` is an epoch or a round; they
    /// count from `first`.
    ///
    /// # Errors
    /// Fails as [`Checkpoints::read`] does.
    pub fn load<N: DeserializeOwned>(
        &self,
        unit: &str,
        first: usize,
    ) -> Result<Option<Resumed<N>>> {
        let Some(saved) = self.checkpoints.read::<Content<N>>(NAME)? else {
            return Ok(None);
        };
        let Content {
            position,
            best,
            notes,
        } = saved.state;
        let fit = FitState {
            position,
            tensors: saved.tensors,
        };
        tracing::info!(
            "resuming from {unit} {}, step {}",
            position.epoch + first,
            position.step
        );
        Ok(Some(Resumed {
            best: BestWeights::restore(best, fit.part("kept")),
            fit,
            notes,
        }))
    }
}
