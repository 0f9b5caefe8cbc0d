//! Defines the state of a training run: all that [`fit`](super::fit) needs to continue as if the
//! run had never stopped. It consists of numbers and named tensors, so that an observer can save it
//! in any format.

use crate::error::{Error, Result};
use crate::model::StateDict;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Holds the position of a run at the beginning of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Index of the epoch, from 0; the number of epochs when all are done.
    pub epoch: usize,
    /// Number of steps of that epoch that are done.
    pub step: usize,
    /// Position of the source's random generator in that epoch.
    pub drawn: u64,
    /// Number of images trained on in that epoch.
    pub images: i64,
    /// Number of steps of the optimiser since the run began.
    pub optimizer_steps: i32,
}

impl Position {
    /// Returns the beginning of the next epoch.
    pub fn next_epoch(&self) -> Self {
        Self {
            epoch: self.epoch + 1,
            ..Self::default()
        }
    }
}

/// Holds the state of a run at a position.
#[derive(Debug, Default)]
pub struct FitState {
    /// The position of the run.
    pub position: Position,
    /// The tensors `model.*` (weights and buffers), `first.*` and `second.*` (the optimiser's
    /// moments, by index of the parameter), `sums.*` (loss and hits of the current epoch) and
    /// `source.*` (what the source of batches has learnt).
    pub tensors: Vec<(String, Tensor)>,
}

impl FitState {
    /// Returns the same state as views of the same tensors.
    pub fn share(&self) -> Self {
        let view = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.shallow_clone());
        Self {
            position: self.position,
            tensors: self.tensors.iter().map(view).collect(),
        }
    }

    /// Returns a copy that does not follow the run.
    pub fn copy(&self) -> Self {
        let copy = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.detach().copy());
        Self {
            position: self.position,
            tensors: self.tensors.iter().map(copy).collect(),
        }
    }

    /// Returns the tensors whose names begin with `prefix` and a dot, under the rest of their
    /// names, in their order.
    pub fn part(&self, prefix: &str) -> StateDict {
        StateDict::new(self.share().tensors).part(prefix)
    }
}

/// Copies `source`, the saved tensor `what`, into `target`.
///
/// # Errors
/// Fails when there is no `source`, or one of another shape or type.
pub(crate) fn restore(what: &str, target: &Tensor, source: Option<&Tensor>) -> Result<()> {
    match source {
        Some(source) if source.size() == target.size() && source.kind() == target.kind() => {
            tch::no_grad(|| target.shallow_clone().f_copy_(source))?;
            Ok(())
        }
        found => Err(Error::failed(format!(
            "the saved state does not fit the run: `{what}` differs"
        ))
        .note(
            "expected",
            format!("{:?} of {:?}", target.size(), target.kind()),
        )
        .note(
            "found",
            found.map_or("nothing".into(), |t| {
                format!("{:?} of {:?}", t.size(), t.kind())
            }),
        )),
    }
}
