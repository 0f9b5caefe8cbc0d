//! Reads and writes the files in which nodes upload teachers, and the server writes students:
//! safetensors of the state dict, with a card in the metadata that describes the weights, so that
//! the server needs nothing else from a node.

use crate::artifact::tensors;
use crate::data::{Dataset, Normalisation};
use crate::error::{During, Error, Result};
use crate::model::{Model, ModelSpec, Precision, StateDict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// Names the metadata that holds the card.
const KEY: &str = "fed_distill";

/// Describes the weights in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    pub model: ModelSpec,
    pub dataset: String,
    pub dataset_fingerprint: String,
    /// Class names in label order.
    pub classes: Vec<String>,
    pub normalisation: Normalisation,
    /// Training images of each class.
    pub label_counts: Vec<u64>,
}

impl Card {
    /// Returns the card of a model trained on `label_counts` images of `dataset`.
    pub fn new(model: ModelSpec, dataset: &Dataset, label_counts: Vec<u64>) -> Self {
        Self {
            model,
            dataset: dataset.name.clone(),
            dataset_fingerprint: dataset.fingerprint.clone(),
            classes: dataset.classes.clone(),
            normalisation: dataset.normalisation.clone(),
            label_counts,
        }
    }
}

/// Writes a model's weights with their card.
///
/// # Errors
/// Fails when a weight is not finite, and when the file cannot be written.
pub fn save(path: &Path, state: &StateDict, card: &Card) -> Result<()> {
    if let Some((name, _)) = state.iter().find(|(_, tensor)| !is_finite(tensor)) {
        return Err(Error::failed(format!(
            "the weights of `{name}` are not finite; nothing was saved"
        ))
        .hint("lower the learning rate"));
    }
    let tensors: Vec<(&str, &Tensor)> = state.iter().collect();
    tensors::write(path, &tensors, &metadata(card)?)
}

/// Returns the metadata of a file that belongs to `card`. `format` is what safetensors' PyTorch
/// loader expects.
///
/// # Errors
/// Fails when the card cannot be serialised.
pub fn metadata(card: &Card) -> Result<BTreeMap<String, String>> {
    let text = serde_json::to_string(card).map_err(|error| {
        Error::failed(format!("cannot record the model: {error}")).caused_by(error)
    })?;
    Ok(BTreeMap::from([
        ("format".into(), "pt".into()),
        (KEY.into(), text),
    ]))
}

/// Returns the card in a file's metadata, if it has one.
///
/// # Errors
/// Fails when the card cannot be read.
pub fn card(metadata: &BTreeMap<String, String>) -> Result<Option<Card>> {
    let Some(text) = metadata.get(KEY) else {
        return Ok(None);
    };
    let card = serde_json::from_str(text).map_err(|error| {
        Error::failed(format!("its `{KEY}` metadata cannot be read: {error}")).caused_by(error)
    })?;
    Ok(Some(card))
}

/// Reads weights: a file of ours with its card, or a state dict of PyTorch, whose card
/// `default_card` makes.
///
/// # Errors
/// Fails when the file is missing, damaged, or of another architecture than its card says.
pub fn load(
    path: &Path,
    default_card: &dyn Fn() -> Result<Card>,
    device: tch::Device,
    precision: Precision,
) -> Result<(Model, Card)> {
    let read = || {
        let (state, metadata) = tensors::read_state(path)?;
        let card = match card(&metadata)? {
            Some(card) => card,
            None => default_card()?,
        };
        card.model.check().within("model")?;
        let model = Model::from_state(&card.model, &state, device)?.with_precision(precision);
        Ok::<_, Error>((model, card))
    };
    read().map_err(|error| error.note("file", path.display().to_string()))
}

fn is_finite(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() || bool::try_from(tensor.isfinite().all()).unwrap_or(false)
}
