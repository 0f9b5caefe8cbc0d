//! Where a training run stands: all that [`fit`](super::fit) needs to go on as if it had never
//! stopped. Numbers and named tensors, so that whoever watches the run can keep them where it
//! likes.

use crate::error::{Error, Result};
use crate::model::StateDict;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// A place in a run, at the beginning of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// From 0; the number of epochs when all are done.
    pub epoch: usize,
    /// Steps of that epoch that are done.
    pub step: usize,
    /// How far the source's generator has come in that epoch.
    pub drawn: u64,
    /// Images trained on in that epoch.
    pub images: i64,
    /// Steps of the optimiser since the run began.
    pub optimizer_steps: i32,
}

impl Position {
    /// The beginning of the next epoch.
    pub fn next_epoch(&self) -> Self {
        Self {
            epoch: self.epoch + 1,
            ..Self::default()
        }
    }
}

/// A run at a position. `tensors` are `model.*` (weights and buffers), `first.*` and `second.*`
/// (the optimiser's moments, by parameter) and `sums.*` (loss and hits of the epoch in hand).
#[derive(Debug)]
pub struct FitState {
    pub position: Position,
    pub tensors: Vec<(String, Tensor)>,
}

impl FitState {
    /// The same state: tensors are views.
    pub fn share(&self) -> Self {
        let view = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.shallow_clone());
        Self {
            position: self.position,
            tensors: self.tensors.iter().map(view).collect(),
        }
    }

    /// A copy that does not follow the run.
    pub fn copy(&self) -> Self {
        let copy = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.detach().copy());
        Self {
            position: self.position,
            tensors: self.tensors.iter().map(copy).collect(),
        }
    }

    /// The tensors whose names begin with `prefix` and a dot, under the rest of their names, in
    /// their order.
    pub fn part(&self, prefix: &str) -> StateDict {
        let of = |(name, tensor): &(String, Tensor)| {
            let rest = name.strip_prefix(prefix)?.strip_prefix('.')?;
            Some((rest.to_owned(), tensor.shallow_clone()))
        };
        StateDict::new(self.tensors.iter().filter_map(of).collect())
    }
}

/// Copies `source` into `target`, which must be of the same shape and type.
pub(super) fn restore(what: &str, target: &Tensor, source: Option<&Tensor>) -> Result<()> {
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
