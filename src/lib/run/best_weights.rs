//! Which epoch's weights a training run saves, under `selection`. Used by the stages that train.

use crate::model::{Model, StateDict};
use crate::train::Selection;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Holds the weights that a training run will save.
#[derive(Default)]
pub struct BestWeights {
    notes: BestWeightsNotes,
    state: Option<StateDict>,
}

/// What a checkpoint says of them beside the tensors.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct BestWeightsNotes {
    epoch: usize,
    accuracy: f64,
}

impl BestWeights {
    /// Looks at an epoch's weights under `selection`, given the accuracy that selects.
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

    /// The state that `selection` chose; the model's present one when that is the last.
    pub fn state(&self, model: &Model) -> StateDict {
        self.state.as_ref().unwrap_or(&model.state()).deep_clone()
    }

    /// The epoch it is of.
    pub fn epoch(&self) -> usize {
        self.notes.epoch
    }

    pub fn notes(&self) -> BestWeightsNotes {
        self.notes
    }

    /// The kept weights as `kept.*`; none where the last epoch's are to be saved.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let named =
            |(name, tensor): (&str, &Tensor)| (format!("kept.{name}"), tensor.shallow_clone());
        self.state
            .iter()
            .flat_map(StateDict::iter)
            .map(named)
            .collect()
    }

    /// As [`notes`](Self::notes) and [`tensors`](Self::tensors) described it.
    pub fn restore(notes: BestWeightsNotes, state: StateDict) -> Self {
        Self {
            notes,
            state: Some(state).filter(|state| !state.is_empty()),
        }
    }
}
