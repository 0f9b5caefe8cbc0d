//! Keeps the weights that a training run saves: those of the epoch that `selection` chooses. Used
//! by the stages that train.

use crate::model::{Model, StateDict};
use crate::train::Selection;
use serde::{Deserialize, Serialize};

/// Holds the weights that a training run will save.
#[derive(Default)]
pub struct BestWeights {
    notes: BestWeightsNotes,
    state: Option<StateDict>,
}

/// Describes the kept weights in a checkpoint, beside their tensors.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct BestWeightsNotes {
    epoch: usize,
    accuracy: f64,
}

impl BestWeights {
    /// Keeps the weights of `model` after `epoch` if `selection` prefers them to those kept so far.
    /// `accuracy` is the one that it compares.
    pub fn offer(
        &mut self,
        selection: Selection,
        epoch: usize,
        accuracy: Option<f64>,
        model: &Model,
    ) {
        let accuracy = accuracy.unwrap_or(0.0);
        match selection {
            Selection::Last => self.notes.epoch = epoch,
            _ if self.state.is_none() || accuracy > self.notes.accuracy => {
                *self = Self {
                    notes: BestWeightsNotes { epoch, accuracy },
                    state: Some(model.state().deep_clone()),
                }
            }
            _ => {}
        }
    }

    /// Returns the state that `selection` chose: for the last epoch the present one of `model`.
    pub fn state(&self, model: &Model) -> StateDict {
        self.state.as_ref().unwrap_or(&model.state()).deep_clone()
    }

    /// Returns the epoch that the weights are of.
    pub fn epoch(&self) -> usize {
        self.notes.epoch
    }

    /// Returns what a checkpoint holds of the weights beside their tensors.
    pub fn notes(&self) -> BestWeightsNotes {
        self.notes
    }

    /// Returns the kept weights as `kept.NAME`; none where the last epoch's are to be saved.
    pub fn tensors(&self) -> StateDict {
        let kept = self.state.as_ref().map(|state| state.prefixed("kept"));
        kept.unwrap_or_default()
    }

    /// Restores what [`notes`](Self::notes) and [`tensors`](Self::tensors) returned.
    pub fn restore(notes: BestWeightsNotes, state: StateDict) -> Self {
        Self {
            notes,
            state: Some(state).filter(|state| !state.is_empty()),
        }
    }
}
