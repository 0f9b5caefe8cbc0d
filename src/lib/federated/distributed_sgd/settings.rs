//! What a run is told, the same on every rank: the method, the numbers, the data.

use crate::data::{ImageSet, Normalisation};
use crate::model::{ModelSpec, Precision};
use crate::runtime::seed::Seeds;
use crate::train::{AugmentSettings, OptimizerSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Device;

/// Who holds the model, and what travels.
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

/// How to train.
#[derive(Clone, Debug)]
pub struct SgdSettings {
    pub epochs: usize,
    /// Images in a batch, over all ranks.
    pub batch_size: usize,
    /// A batch's gradient is the sum of those of so many parts, rounded up to a multiple of the
    /// ranks. Where that changes nothing, 1, 2, 4, … ranks have the same bits.
    pub parts: usize,
    pub optimizer: OptimizerSettings,
    pub augment: AugmentSettings,
    /// Batches from one loss to the next.
    pub report_every: usize,
}

/// What is trained on what; the same on every rank.
#[derive(Debug)]
pub struct Task<'a> {
    pub spec: ModelSpec,
    pub device: Device,
    /// What the models' convolutions are computed in.
    pub precision: Precision,
    pub train: &'a ImageSet,
    pub normalisation: &'a Normalisation,
    pub seeds: Seeds,
}
