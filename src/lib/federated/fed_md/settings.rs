//! Defines the settings of FedMD, and what it works on.

use crate::data::{ImageSet, Normalisation};
use crate::federated::NodeData;
use crate::model::{ModelSpec, Precision};
use crate::runtime::seed::Seeds;
use crate::train::{AugmentSettings, OptimizerSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Device;

/// How the distance of a client's scores to the consensus is measured: a mean over images and
/// classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DigestLoss {
    /// |score − consensus|, as the authors' code has it.
    Absolute,
    /// (score − consensus)².
    Squared,
}

/// Holds the algorithm's settings. Zero epochs leave a phase out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FedMdSettings {
    /// Number of communication rounds.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rounds: usize,
    /// Public images in a round, drawn anew in each; all, where there are fewer. `null`: all.
    #[schemars(range(min = 2))]
    pub public_samples: Option<usize>,
    /// Weights of the clients in the consensus, in their order; `null`: all the same.
    #[schemars(extend("minimum" = 0))]
    pub weights: Option<Vec<f64>>,
    /// Clients of one architecture start from the same weights.
    pub shared_initialisation: bool,
    /// Epochs on the public set, with its labels, before the first round.
    #[schemars(range(max = 1_000_000_000))]
    pub public_epochs: usize,
    /// Epochs on private images after those.
    #[schemars(range(max = 1_000_000_000))]
    pub private_epochs: usize,
    /// Epochs towards the consensus in a round.
    #[schemars(range(max = 1_000_000_000))]
    pub digest_epochs: usize,
    /// Epochs on private images in a round.
    #[schemars(range(max = 1_000_000_000))]
    pub revisit_epochs: usize,
    /// Images in a batch with labels.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_size: usize,
    /// Images in a batch of the digest; `null`: as `batch_size`.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub digest_batch_size: Option<usize>,
    /// Distance of scores to the consensus.
    pub digest_loss: DigestLoss,
    /// Optimiser of every phase; its moments start afresh in each.
    pub optimizer: OptimizerSettings,
    /// Augmentation of images trained on with labels. The digest gets them as the scores did,
    /// unchanged.
    pub augment: AugmentSettings,
    /// Rounds from one evaluation of the clients to the next; the last is always evaluated.
    #[schemars(range(min = 1))]
    pub eval_every: usize,
}

impl Default for FedMdSettings {
    fn default() -> Self {
        Self {
            rounds: 10,
            public_samples: Some(5000),
            weights: None,
            shared_initialisation: false,
            public_epochs: 10,
            private_epochs: 10,
            digest_epochs: 1,
            revisit_epochs: 2,
            batch_size: 64,
            digest_batch_size: None,
            digest_loss: DigestLoss::Absolute,
            optimizer: OptimizerSettings::adam(1e-3),
            augment: AugmentSettings::default(),
            eval_every: 1,
        }
    }
}

/// Holds a party with private images.
#[derive(Debug)]
pub struct Client {
    /// Its number in the split.
    pub node: usize,
    /// Its own architecture; all have as many classes.
    pub spec: ModelSpec,
    /// Its images.
    pub data: NodeData,
}

/// Holds what server and clients must agree on beside the settings.
#[derive(Debug)]
pub struct Task<'a> {
    /// The images that everyone holds. Their labels count in transfer learning and accuracies
    /// alone.
    pub public: &'a ImageSet,
    /// Their normalisation.
    pub public_normalisation: &'a Normalisation,
    /// What every client's model is tested on.
    pub test: &'a ImageSet,
    /// Normalisation of private images and of the test set.
    pub normalisation: &'a Normalisation,
    /// Where the models compute.
    pub device: Device,
    /// What the models' convolutions are computed in.
    pub precision: Precision,
    /// Source of all random numbers.
    pub seeds: Seeds,
    /// Number of images that are evaluated at a time.
    pub eval_batch_size: usize,
}

/// Holds a federation in simulation.
#[derive(Debug)]
pub struct Federation<'a> {
    /// What all agree on.
    pub task: Task<'a>,
    /// All clients, by ascending node.
    pub clients: Vec<Client>,
}

impl FedMdSettings {
    /// Returns the number of public images in a round, of `public` in all.
    pub fn samples(&self, public: usize) -> usize {
        self.public_samples.unwrap_or(public).min(public)
    }

    /// Returns the number of images in a batch of the digest.
    pub fn digest_batch_size(&self) -> usize {
        self.digest_batch_size.unwrap_or(self.batch_size)
    }

    /// Returns true if the clients are evaluated after `round` rounds.
    pub fn evaluates(&self, round: usize) -> bool {
        round.is_multiple_of(self.eval_every) || round == self.rounds
    }
}
