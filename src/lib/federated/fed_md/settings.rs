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
#[derive(Clone, Debug)]
pub struct FedMdSettings {
    /// Number of rounds.
    pub rounds: usize,
    /// Number of public images in a round, drawn anew in each; with `None`, or more than there are,
    /// all.
    pub public_samples: Option<usize>,
    /// Weights of the clients in the consensus, in their order; with `None` all the same.
    pub weights: Option<Vec<f64>>,
    /// Clients of one architecture start from the same weights.
    pub shared_initialisation: bool,
    /// Transfer learning, before the first round: epochs on the public set with its labels, then on
    /// private images.
    pub public_epochs: usize,
    pub private_epochs: usize,
    /// Epochs in a round: on the round's public images towards the consensus, then on private
    /// images.
    pub digest_epochs: usize,
    pub revisit_epochs: usize,
    /// Number of images in a batch.
    pub batch_size: usize,
    /// The same for the digest.
    pub digest_batch_size: usize,
    /// Distance that the digest minimises.
    pub digest_loss: DigestLoss,
    /// The optimiser of every phase; its moments start afresh in each.
    pub optimizer: OptimizerSettings,
    /// Random changes of images trained on with labels. The digest gets them as the scores did,
    /// unchanged.
    pub augment: AugmentSettings,
    /// Number of rounds from one evaluation to the next; the transfer learning and the last round
    /// are always evaluated.
    pub eval_every: usize,
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

    /// Returns true if the clients are evaluated after `round` rounds.
    pub fn evaluates(&self, round: usize) -> bool {
        round.is_multiple_of(self.eval_every) || round == self.rounds
    }
}
