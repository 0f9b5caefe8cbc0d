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
    /// The sum is taken at rank 0 and handed to all, so that no rank's parameters differ in a bit.
    AllReduce,
    /// Rank 0 draws the batches, hands out shards, receives losses and gradients, steps, and sends
    /// the model back.
    ParameterServer,
}

/// Holds the settings of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SgdSettings {
    /// Passes over all training images.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Images in a batch, over all ranks.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_size: usize,
    /// Parts whose gradients are summed to a batch's, at least; each rank computes equally many.
    /// `4` gives one, two and four ranks the same bits; `1` costs nothing.
    #[schemars(range(min = 1, max = 1024))]
    pub parts: usize,
    /// Batches from one mean loss to the next.
    #[schemars(range(min = 1))]
    pub report_every: usize,
    /// Optimiser of the model.
    pub optimizer: OptimizerSettings,
    /// Augmentation of the training images.
    pub augment: AugmentSettings,
}

impl Default for SgdSettings {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 100,
            parts: 1,
            report_every: 200,
            optimizer: OptimizerSettings::sgd(0.01, 0.9),
            augment: AugmentSettings {
                crop: 0,
                flip: false,
            },
        }
    }
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
