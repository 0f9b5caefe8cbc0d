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

/// Largest mean and standard deviation of a card: of pixels in 0..1, both are at most 1.
const MOST_VALUE: f64 = 1000.0;
/// Smallest standard deviation of a card.
const LEAST_STD: f64 = 1e-6;
/// Most training images of a class, on a card: sums over classes and clients stay exact.
const MOST_IMAGES: u64 = 1 << 32;

/// Names the metadata that holds the card.
const KEY: &str = "fed_distill";

/// Describes the weights in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    pub model: ModelSpec,
    pub dataset: String,
    /// A hash of the images, in files of earlier versions; nothing depends on it, and it is not
    /// written again: whoever has the hash of private images can confirm a guess of them.
    #[serde(default, skip_serializing)]
    pub dataset_fingerprint: Option<String>,
    /// Class names in label order.
    pub classes: Vec<String>,
    pub normalisation: Normalisation,
    /// Training images of each class, synthetic and real ones together; `None` where the client
    /// keeps them to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_counts: Option<Vec<u64>>,
    /// Of those, the synthetic ones; empty if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub synthetic_counts: Vec<u64>,
}

impl Card {
    /// Returns the card of a model trained on `label_counts` images of `dataset`, or on numbers of
    /// images that are not told.
    pub fn new(
        model: ModelSpec,
        dataset: &Dataset,
        label_counts: impl Into<Option<Vec<u64>>>,
    ) -> Self {
        Self {
            model,
            dataset: dataset.name.clone(),
            dataset_fingerprint: None,
            classes: dataset.classes.clone(),
            normalisation: dataset.normalisation.clone(),
            label_counts: label_counts.into(),
            synthetic_counts: Vec::new(),
        }
    }

    /// Checks what a file says of itself before anything is made from it: it may come from anybody.
    ///
    /// # Errors
    /// Fails when a number is missing, surplus or absurd.
    pub fn check(&self) -> Result<()> {
        self.model
            .check()
            .map_err(|error| error.within("model").into_failed())?;
        let (classes, channels) = (self.model.classes as usize, self.model.channels as usize);
        let Normalisation { mean, std } = &self.normalisation;
        let counts = self.label_counts.as_deref();
        for (what, found, expected) in [
            ("class names", self.classes.len(), classes),
            ("label counts", counts.map_or(classes, <[_]>::len), classes),
            ("means", mean.len(), channels),
            ("standard deviations", std.len(), channels),
        ] {
            if found != expected {
                return Err(Error::failed(format!("its card has {found} {what}"))
                    .note("expected", expected.to_string()));
            }
        }
        let usual = |value: f64, least: f64| (least..=MOST_VALUE).contains(&value);
        if let Some(value) = mean.iter().find(|value| !usual(**value, -MOST_VALUE)) {
            return Err(
                Error::failed(format!("its card has a mean of {value}")).note(
                    "expected",
                    format!("−{MOST_VALUE} to {MOST_VALUE}, of pixels in 0..1"),
                ),
            );
        }
        if let Some(value) = std.iter().find(|value| !usual(**value, LEAST_STD)) {
            return Err(
                Error::failed(format!("its card has a standard deviation of {value}"))
                    .note("expected", format!("{LEAST_STD} to {MOST_VALUE}")),
            );
        }
        let counts = counts.unwrap_or_default();
        if let Some(count) = counts.iter().find(|count| **count > MOST_IMAGES) {
            return Err(
                Error::failed(format!("its card has a label count of {count}")).note(
                    "expected",
                    format!("at most {MOST_IMAGES} images of a class"),
                ),
            );
        }
        let synthetic = &self.synthetic_counts;
        let among = |(part, whole): (&u64, &u64)| part <= whole;
        let fits = synthetic.is_empty() || synthetic.len() == counts.len();
        if !fits || !synthetic.iter().zip(counts).all(among) {
            return Err(Error::failed(format!(
                "its card has {} counts of synthetic images that are not part of its label counts",
                synthetic.len()
            )));
        }
        Ok(())
    }
}

/// Returns the weights without the number of steps that were taken (`num_batches_tracked` of every
/// batch norm), which tells how many images there were. Nothing reads it.
pub fn without_steps(state: &StateDict) -> StateDict {
    let tensors = state.iter().map(|(name, tensor)| {
        let tensor = match name.ends_with("num_batches_tracked") {
            true => tensor.zeros_like(),
            false => tensor.shallow_clone(),
        };
        (name.to_owned(), tensor)
    });
    StateDict::new(tensors.collect())
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
            Some(card) => {
                card.check()?;
                card
            }
            None => {
                let card = default_card()?;
                card.model.check().within("model")?;
                card
            }
        };
        let model = Model::from_state(&card.model, &state, device)?.with_precision(precision);
        Ok::<_, Error>((model, card))
    };
    read().map_err(|error| error.note("file", path.display().to_string()))
}

fn is_finite(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() || bool::try_from(tensor.isfinite().all()).unwrap_or(false)
}
