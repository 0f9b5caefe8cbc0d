//! Stores finished synthetic batches as files of a run's checkpoints, one each, because making one
//! again may take an hour; and encodes them as messages between the ranks that make them.

use crate::artifact::{json, tensors};
use crate::error::Error;
use crate::inversion::{BatchStore, Moments, StoredBatch, SyntheticBatch, TermsAt};
use crate::run::checkpoint::Checkpoints;
use crate::train::{FitState, Position};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Device, Tensor};

/// Holds what a file has beside its tensors.
#[derive(Serialize, Deserialize)]
struct Notes {
    teacher: Option<usize>,
    best_loss: f64,
    history: Vec<TermsAt>,
    /// Counts the steps behind the moments, where they are kept.
    moment_steps: Option<i32>,
}

/// Tells of which moment a synthesiser's state is.
#[derive(Serialize, Deserialize)]
struct StateNotes {
    /// The batch after which it is.
    batch: usize,
    position: Position,
}

/// Stores the batches of one run; they are read onto `device`.
pub struct BatchFiles<'a> {
    pub checkpoints: &'a Checkpoints,
    pub device: Device,
}

/// Names the metadata of a batch in a message.
const KEY: &str = "batch";

impl Notes {
    fn new(batch: &SyntheticBatch, moment_steps: Option<i32>) -> Self {
        Self {
            teacher: batch.teacher,
            best_loss: batch.best_loss,
            history: batch.history.clone(),
            moment_steps,
        }
    }
}

/// Encodes a batch for another rank.
///
/// # Errors
/// Fails when a number is not finite.
pub fn encode(batch: &SyntheticBatch) -> Result<Vec<u8>> {
    let notes = json::value(&Notes::new(batch, None))?.to_string();
    let tensors: [(&str, &Tensor); 2] = [("images", &batch.images), ("labels", &batch.labels)];
    Ok(tensors::encode(
        &tensors,
        &BTreeMap::from([(KEY.to_owned(), notes)]),
    )?)
}

/// Decodes what [`encode`] returned, onto `device`.
///
/// # Errors
/// Fails when the bytes are no batch.
pub fn decode(bytes: &[u8], device: Device) -> Result<SyntheticBatch> {
    let message = tensors::decode(bytes)?;
    let notes = message
        .metadata
        .get(KEY)
        .map(String::as_str)
        .unwrap_or_default();
    let notes: Notes = serde_json::from_str(notes).map_err(|error| {
        Error::failed(format!("a synthetic batch cannot be read: {error}")).caused_by(error)
    })?;
    Ok(SyntheticBatch {
        images: message.get("images")?.to_device(device),
        labels: message.get("labels")?.to_device(device),
        teacher: notes.teacher,
        best_loss: notes.best_loss,
        history: notes.history,
    })
}

fn name(index: usize) -> String {
    format!("batch_{index:05}")
}

/// Names the file of the state after a batch. There are two, in turn: a process may die between
/// the state after a batch and the batch itself, and then the state before it is still there.
fn state_name(index: usize) -> String {
    format!("state_{}", index % 2)
}

impl BatchStore for BatchFiles<'_> {
    fn get(&self, index: usize) -> Result<Option<StoredBatch>, Error> {
        let Some(saved) = self.checkpoints.read::<Notes>(&name(index))? else {
            return Ok(None);
        };
        let tensor = |wanted: &str| {
            let found = saved.tensors.iter().find(|(name, _)| name == wanted);
            let (_, tensor) = found.ok_or_else(|| {
                Error::failed(format!("synthetic batch {index} has no `{wanted}`"))
            })?;
            Ok::<_, Error>(tensor.to_device(self.device))
        };
        let images = tensor("images")?;
        let moment = |name: &str| {
            let moment = tensor(name)?;
            match moment.size() == images.size() {
                true => Ok(moment),
                false => Err(Error::failed(format!(
                    "`{name}` of synthetic batch {index} has the shape of an earlier version"
                ))
                .note("expected", format!("{:?}", images.size()))
                .note("found", format!("{:?}", moment.size()))
                .hint("`overwrite=true` starts the run again")),
            }
        };
        let moments = match saved.state.moment_steps {
            Some(steps) => Some(Moments {
                first: moment("first")?,
                second: moment("second")?,
                steps,
            }),
            None => None,
        };
        Ok(Some(StoredBatch {
            batch: SyntheticBatch {
                labels: tensor("labels")?,
                images,
                teacher: saved.state.teacher,
                best_loss: saved.state.best_loss,
                history: saved.state.history,
            },
            moments,
        }))
    }

    fn put(&self, index: usize, stored: &StoredBatch) -> Result<(), Error> {
        let batch = &stored.batch;
        let notes = Notes::new(batch, stored.moments.as_ref().map(|moments| moments.steps));
        let mut tensors: Vec<(&str, &Tensor)> =
            vec![("images", &batch.images), ("labels", &batch.labels)];
        if let Some(moments) = &stored.moments {
            tensors.extend([("first", &moments.first), ("second", &moments.second)]);
        }
        self.checkpoints.write(&name(index), &notes, &tensors)
    }

    fn get_state(&self, index: usize) -> Result<Option<FitState>, Error> {
        let saved = self.checkpoints.read::<StateNotes>(&state_name(index))?;
        let Some(saved) = saved.filter(|saved| saved.state.batch == index) else {
            return Ok(None);
        };
        let upload = |(name, tensor): (String, Tensor)| (name, tensor.to_device(self.device));
        Ok(Some(FitState {
            position: saved.state.position,
            tensors: saved.tensors.into_iter().map(upload).collect(),
        }))
    }

    fn put_state(&self, index: usize, state: &FitState) -> Result<(), Error> {
        let notes = StateNotes {
            batch: index,
            position: state.position,
        };
        let named = state.tensors.iter();
        let tensors: Vec<(&str, &Tensor)> = named
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        self.checkpoints.write(&state_name(index), &notes, &tensors)
    }

    fn hint_if_missing(&self) -> Option<&'static str> {
        Some("`overwrite=true` starts the run again")
    }
}
