//! Defines what a run needs, the same on every rank: the method, the settings, the data.

use crate::data::{ImageSet, Normalisation};
use crate::model::{ModelSpec, Precision};
use crate::runtime::seed::Seeds;
use crate::train::{AugmentSettings, OptimizerSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Device;

/// Forms of distributed SGD: who holds the model, and what travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Nothing travels: rank 0 trains alone.
    Centralised,
    /// Every rank draws the same batches, takes its shard, and steps by the sum of all gradients.
    /// The sum is taken at rank 0 and handed to all, so that no rank's model differs in a bit.
    AllReduce,
    /// Rank 0 draws the batches, hands out shards, receives losses and gradients, steps, and sends
    /// the model back.
    ParameterServer,
}

/// Holds the settings of a training.
#[derive(Clone, Debug)]
pub struct SgdSettings {
    /// Passes over the images.
    pub epochs: usize,
    /// Number of images in a batch, over all ranks.
    pub batch_size: usize,
    /// A batch's gradient is the sum of those of so many parts, rounded up to a multiple of the
    /// ranks. Where that changes nothing, 1, 2, 4, … ranks have the same bits.
    pub parts: usize,
    /// Update rule and learning rate.
    pub optimizer: OptimizerSettings,
    /// Random changes of training images.
    pub augment: AugmentSettings,
    /// Number of batches from one reported loss to the next.
    pub report_every: usize,
}

/// Holds what is trained on what, the same on every rank.
#[derive(Debug)]
pub struct Task<'a> {
    /// The model's architecture.
    pub spec: ModelSpec,
    /// Where the model computes.
    pub device: Device,
    /// What the model's convolutions are computed in.
    pub precision: Precision,
    /// The images.
    pub train: &'a ImageSet,
    /// Their normalisation.
    pub normalisation: &'a Normalisation,
    /// Source of all random numbers.
    pub seeds: Seeds,
}
