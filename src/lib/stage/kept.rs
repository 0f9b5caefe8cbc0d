//! Which epoch's weights a training run saves, under `selection`. Used by the stages that train.

use crate::model::{Model, StateDict};
use crate::train::Selection;

/// The weights that will be saved, as training goes on.
#[derive(Default)]
pub struct Kept {
    epoch: usize,
    accuracy: f64,
    state: Option<StateDict>,
}

impl Kept {
    /// Looks at an epoch's weights under `selection`, given the accuracy that selects.
    pub fn offer(&mut self, selection: Selection, epoch: usize, accuracy: Option<f64>, model: &Model) {
        let accuracy = accuracy.unwrap_or(0.0);
        match selection {
            Selection::Last => self.epoch = epoch,
            _ if self.state.is_none() || accuracy > self.accuracy => {
                *self = Self {
                    epoch,
                    accuracy,
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
        self.epoch
    }
}
