//! What the parties of a federation must agree on: the shape of the images, the names of the
//! classes, the normalisation, and the architectures that the server takes. With it come the limits
//! of an upload and when the server stops waiting.

use super::rounds::plan::{Algorithm, Plan};
use crate::artifact::{hash, json};
use crate::data::Normalisation;
use crate::error::{Error, Result};
use crate::federated::At;
use crate::model::{ModelSettings, ModelSpec};
use crate::run::agreement;
use crate::run::weights::Card;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of the file and of the protocol.
pub const VERSION: u32 = 1;

/// Stands for any architecture where only the images' shape is checked.
const DEFAULT: [ModelSettings; 1] = [ModelSettings {
    kind: crate::model::ModelKind::Linear,
    width: None,
    blocks: None,
}];

/// Holds the task, as in the file `task.json` of the server's folder and in `GET /v1/task`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    pub version: u32,
    /// Shown to people.
    pub name: String,
    /// Image channels, 1 or 3.
    pub channels: i64,
    /// Image height and width in pixels.
    pub size: i64,
    /// Class names in label order.
    pub classes: Vec<String>,
    pub normalisation: Normalisation,
    /// The architectures that are taken; empty for any.
    pub models: Vec<ModelSettings>,
    /// Most bytes of an upload.
    pub max_bytes: u64,
    /// Most training images that a client may declare.
    pub max_images: u64,
    /// The server continues as soon as so many uploads are accepted; with rounds, so many clients
    /// have enrolled.
    pub clients: usize,
    /// With fewer than this it never continues, nor does a round end.
    pub min_clients: usize,
    /// When it continues with `min_clients` or more, such as `2026-01-31T12:00:00Z`.
    pub deadline: Option<String>,
    /// Hours by which the deadline moves, once, if there are fewer.
    pub extension_hours: u32,
    /// Rounds in which the clients train, in place of one upload of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<Plan>,
}

impl Task {
    /// Reads the task at `path`.
    ///
    /// # Errors
    /// Fails for a file that cannot be read and as [`Task::check`] does.
    pub fn read(path: &Path) -> Result<Self> {
        let task: Self = json::read(path)?;
        task.check()
            .map_err(|error| error.into_failed().note("file", path.display().to_string()))?;
        Ok(task)
    }

    /// Returns the number of the round of an exchange, as people are told it.
    pub fn round(&self, at: At) -> usize {
        let plan = self.rounds.as_ref();
        at.round + plan.map_or(1, |plan| plan.algorithm.first_round())
    }

    /// Checks the numbers: the file may have been edited.
    ///
    /// # Errors
    /// Fails when a number is absurd or belongs to another (usage).
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, expected: &str, found: String| {
            Err(Error::usage(format!("the task's `{what}` cannot be used"))
                .note("expected", expected)
                .note("found", found))
        };
        if self.version != VERSION {
            return wrong("version", &VERSION.to_string(), self.version.to_string());
        }
        let models = match self.models.is_empty() {
            true => &DEFAULT[..],
            false => &self.models,
        };
        for model in models {
            self.spec(model).check()?;
        }
        let Normalisation { mean, std } = &self.normalisation;
        let channels = self.channels as usize;
        let usable = |value: &f64| value.is_finite();
        if mean.len() != channels || !mean.iter().all(usable) {
            return wrong(
                "normalisation.mean",
                "a number a channel",
                format!("{mean:?}"),
            );
        }
        if std.len() != channels || !std.iter().all(|value| usable(value) && *value > 0.0) {
            return wrong(
                "normalisation.std",
                "a positive number a channel",
                format!("{std:?}"),
            );
        }
        if self.min_clients == 0 || self.min_clients > self.clients {
            let found = self.min_clients.to_string();
            return wrong("min_clients", "1 to `clients`", found);
        }
        if let Some(plan) = &self.rounds {
            plan.check()?;
            let averaged = matches!(plan.algorithm, Algorithm::FedAvg { .. });
            if self.models.is_empty() || averaged && self.models.len() > 1 {
                let found = self.models.len().to_string();
                return wrong("models", "one architecture, for fed_md one or more", found);
            }
        }
        if self.max_bytes == 0 || self.max_images == 0 {
            return wrong("max_bytes", "1 or more, as `max_images`", "0".into());
        }
        match &self.deadline {
            Some(text) if text.parse::<Timestamp>().is_err() => wrong(
                "deadline",
                "a time such as 2026-01-31T12:00:00Z",
                text.clone(),
            ),
            _ => Ok(()),
        }
    }

    /// Returns the deadline in seconds since 1970.
    pub fn deadline(&self) -> Option<i64> {
        let time: Timestamp = self.deadline.as_ref()?.parse().ok()?;
        Some(time.as_second())
    }

    /// Returns the complete architecture of `model` on the task's images.
    pub fn spec(&self, model: &ModelSettings) -> ModelSpec {
        ModelSpec {
            model: model.clone(),
            channels: self.channels,
            size: self.size,
            classes: self.classes.len() as i64,
        }
    }

    /// Returns the architecture of a node that takes part in rounds: the task's are dealt in turn.
    pub fn spec_of(&self, node: usize) -> ModelSpec {
        let index = node % self.models.len().max(1);
        self.spec(self.models.get(index).unwrap_or(&DEFAULT[0]))
    }

    /// Returns the hash of what the parties must agree on; limits and deadlines may change.
    ///
    /// # Errors
    /// Fails for a number that JSON cannot hold.
    pub fn fingerprint(&self) -> Result<String> {
        let agreed = json::value(&(
            self.version,
            (self.channels, self.size),
            &self.classes,
            &self.normalisation,
            &self.models,
        ))?;
        let mut agreed = agreed.to_string();
        if let Some(plan) = &self.rounds {
            let learned = (&plan.algorithm, plan.seed, plan.precision);
            agreed += &json::value(&learned)?.to_string();
        }
        Ok(hash::bytes(agreed.as_bytes()))
    }

    /// Returns what images and labels mean.
    pub fn agreed(&self) -> agreement::Task {
        agreement::Task {
            channels: self.channels,
            size: self.size,
            classes: self.classes.clone(),
            normalisation: self.normalisation.clone(),
        }
    }

    /// Checks that weights with this card are weights of the task.
    ///
    /// # Errors
    /// Fails when the card contradicts itself or the task, and says in what.
    pub fn check_card(&self, card: &Card) -> Result<()> {
        card.check()?;
        let differs = |what: &str, [ours, theirs]: [String; 2]| {
            Error::failed(format!(
                "the weights are of another task: they differ in {what}"
            ))
            .note("expected", ours)
            .note("found", theirs)
        };
        if let Some(difference) = self
            .agreed()
            .difference_of_party(&agreement::Task::of(card))
        {
            return Err(differs(difference.what, difference.said).hint(difference.hint));
        }
        if !self.models.is_empty() && !self.models.contains(&card.model.model) {
            let ours: Vec<String> = self.models.iter().map(ToString::to_string).collect();
            let both = [ours.join(", "), card.model.model.to_string()];
            let error = differs("architecture", both);
            return Err(error.hint("train that architecture: the group `model` chooses it"));
        }
        Ok(())
    }
}
