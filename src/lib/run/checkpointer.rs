//! The checkpoint of a training run: where `fit` stands, the weights that will be saved, and what
//! the stage has noted so far.

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

/// The file's name.
const NAME: &str = "training";

/// The state in the file; the tensors are those of the two parts.
#[derive(Serialize, Deserialize)]
struct Content<N> {
    position: Position,
    kept: BestWeightsNotes,
    notes: N,
}

/// Holds what a run resumes from.
pub struct Resumed<N> {
    pub fit: FitState,
    pub kept: BestWeights,
    pub notes: N,
}

/// Saves a training run now and then.
pub struct Checkpointer<'a> {
    checkpoints: &'a Checkpoints,
    every: Duration,
    last: Cell<Instant>,
}

impl<'a> Checkpointer<'a> {
    pub fn new(context: &StageContext, checkpoints: &'a Checkpoints) -> Self {
        Self {
            checkpoints,
            every: Duration::try_from_secs_f64(context.config.checkpoint.every)
                .unwrap_or(Duration::MAX),
            last: Cell::new(Instant::now()),
        }
    }

    /// Whether it is time again.
    pub fn due(&self) -> bool {
        self.last.get().elapsed() >= self.every
    }

    /// Replaces the checkpoint.
    pub fn save(&self, fit: &FitState, kept: &BestWeights, notes: &impl Serialize) -> Result<()> {
        let content = Content {
            position: fit.position,
            kept: kept.notes(),
            notes,
        };
        let mut tensors: Vec<(&str, &Tensor)> = fit
            .tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let best = kept.tensors();
        tensors.extend(best.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        self.checkpoints.write(NAME, &content, &tensors)?;
        self.last.set(Instant::now());
        tracing::debug!(
            "saved epoch {}, step {}",
            fit.position.epoch,
            fit.position.step
        );
        Ok(())
    }

    /// What an earlier run left.
    pub fn load<N: DeserializeOwned>(&self) -> Result<Option<Resumed<N>>> {
        let Some(saved) = self.checkpoints.read::<Content<N>>(NAME)? else {
            return Ok(None);
        };
        let Content {
            position,
            kept,
            notes,
        } = saved.state;
        let fit = FitState {
            position,
            tensors: saved.tensors,
        };
        tracing::info!(
            "resuming from epoch {}, step {}",
            position.epoch,
            position.step
        );
        Ok(Some(Resumed {
            kept: BestWeights::restore(kept, fit.part("kept")),
            fit,
            notes,
        }))
    }
}
