//! Finished synthetic batches as files of a run's checkpoints, one each: making one again may cost an hour.

use crate::artifact::checkpoint::Checkpoints;
use crate::error::{Error, Result};
use crate::inversion::{BatchStore, Moments, Stored, SyntheticBatch, TermsAt};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// What a file says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Notes {
    teacher: Option<usize>,
    best_loss: f64,
    history: Vec<TermsAt>,
    /// Steps behind the moments, where they are kept.
    moment_steps: Option<i32>,
}

/// The batches of one run; they are taken onto `device`.
pub struct BatchFiles<'a> {
    pub checkpoints: &'a Checkpoints,
    pub device: Device,
}

fn name(index: usize) -> String {
    format!("batch_{index:05}")
}

impl BatchStore for BatchFiles<'_> {
    fn take(&self, index: usize) -> Result<Option<Stored>> {
        let Some(saved) = self.checkpoints.read::<Notes>(&name(index))? else {
            return Ok(None);
        };
        let tensor = |wanted: &str| {
            let found = saved.tensors.iter().find(|(name, _)| name == wanted);
            let (_, tensor) =
                found.ok_or_else(|| Error::failed(format!("synthetic batch {index} has no `{wanted}`")))?;
            Ok::<_, Error>(tensor.to_device(self.device))
        };
        let moments = match saved.state.moment_steps {
            Some(steps) => Some(Moments {
                first: tensor("first")?,
                second: tensor("second")?,
                steps,
            }),
            None => None,
        };
        Ok(Some(Stored {
            batch: SyntheticBatch {
                images: tensor("images")?,
                labels: tensor("labels")?,
                teacher: saved.state.teacher,
                best_loss: saved.state.best_loss,
                history: saved.state.history,
            },
            moments,
        }))
    }

    fn put(&self, index: usize, stored: &Stored) -> Result<()> {
        let batch = &stored.batch;
        let notes = Notes {
            teacher: batch.teacher,
            best_loss: batch.best_loss,
            history: batch.history.clone(),
            moment_steps: stored.moments.as_ref().map(|moments| moments.steps),
        };
        let mut tensors: Vec<(&str, &Tensor)> = vec![("images", &batch.images), ("labels", &batch.labels)];
        if let Some(moments) = &stored.moments {
            tensors.extend([("first", &moments.first), ("second", &moments.second)]);
        }
        self.checkpoints.write(&name(index), &notes, &tensors)
    }
}
