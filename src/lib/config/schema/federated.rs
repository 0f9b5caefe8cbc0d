//! Holds the config groups of the multi-round baselines.

use crate::data::DatasetSettings;
use crate::federated::distributed_sgd::Method;
use crate::federated::fed_avg::Statistics;
use crate::federated::fed_md::DigestLoss;
use crate::federated::transport::TIMEOUT;
use crate::model::ModelSettings;
use crate::setting::{FilePath, Free};
use crate::train::{AugmentSettings, OptimizerSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Holds config group `ranks`: what applies to ranks that share the work of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RanksConfig {
    /// Seconds that a rank may be silent while another waits for it; after them the run fails.
    /// Longer than the longest step, evaluation batch or loading of data that a rank does.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub timeout: f64,
}

impl Default for RanksConfig {
    fn default() -> Self {
        Self {
            timeout: TIMEOUT.as_secs_f64(),
        }
    }
}

/// Holds config group `fed_avg`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedAvgConfig {
    /// Folder of `global.safetensors`, `metrics.jsonl` and `metrics.json`.
    pub save_folder: Option<FilePath>,
    /// Ranks that share the nodes; changes no result, with as many `threads` for each. `null`:
    /// those that MPI started, or one.
    #[schemars(range(min = 1, max = 1024))]
    pub ranks: Free<Option<usize>>,
    /// Number of communication rounds.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rounds: usize,
    /// Share of the nodes that take part in a round, at least one node (C of McMahan et al. 2017).
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub fraction: f64,
    /// Passes of a node over its images in a round (E).
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Images in a node's batch (B); `null`: all it has.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_size: Option<usize>,
    /// Images in an evaluation batch; changes speed and memory, not results.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_batch_size: Free<usize>,
    /// Rounds from one evaluation of the global model to the next; the last is always evaluated.
    #[schemars(range(min = 1))]
    pub eval_every: usize,
    /// Whether the global model is evaluated on all training images as well.
    pub eval_train: bool,
    /// The nodes' optimiser; its moments start afresh in each round.
    pub optimizer: OptimizerSettings,
    /// Augmentation of the nodes' images.
    pub augment: AugmentSettings,
    /// The server's optimiser, whose gradient is the weights minus the nodes' mean: `sgd` at rate 1
    /// without momentum is plain averaging.
    pub server: OptimizerSettings,
    /// Weight μ of FedProx's term μ/2·‖w − w₀‖².
    #[schemars(range(min = 0))]
    pub proximal: f64,
    /// Batch norm's running statistics: averaged with the weights, or each node's own.
    pub statistics: Statistics,
}

impl Default for FedAvgConfig {
    fn default() -> Self {
        Self {
            save_folder: None,
            ranks: None.into(),
            rounds: 10,
            fraction: 1.0,
            epochs: 1,
            batch_size: Some(64),
            eval_batch_size: 1024.into(),
            eval_every: 1,
            eval_train: false,
            optimizer: OptimizerSettings::sgd(0.1, 0.0),
            augment: AugmentSettings::default(),
            server: OptimizerSettings::sgd(1.0, 0.0),
            proximal: 0.0,
            statistics: Statistics::Average,
        }
    }
}

/// Holds config group `fed_md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedMdConfig {
    /// Folder of `model_node{i}.safetensors`, `metrics.jsonl` and `metrics.json`.
    pub save_folder: Option<FilePath>,
    /// Ranks that share the clients; changes no result, with as many `threads` for each. `null`:
    /// those that MPI started, or one.
    #[schemars(range(min = 1, max = 1024))]
    pub ranks: Free<Option<usize>>,
    /// Number of communication rounds.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rounds: usize,
    /// The node of the split whose training images are public; `null`: the last.
    pub public_node: Option<usize>,
    /// Another dataset whose training images are public; `null`: those of `public_node`.
    pub public: Option<DatasetSettings>,
    /// Public images in a round, drawn anew in each; all, where there are fewer. `null`: all.
    #[schemars(range(min = 2))]
    pub public_samples: Option<usize>,
    /// The clients' architectures, dealt in turn: options of group `model` by name, or their keys.
    /// `null`: `model` for all.
    pub models: Option<Vec<ModelSettings>>,
    /// Weights of the clients in the consensus; `null`: all the same.
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
    /// Images in an evaluation batch; changes speed and memory, not results.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_batch_size: Free<usize>,
    /// Rounds from one evaluation of the clients to the next; the last is always evaluated.
    #[schemars(range(min = 1))]
    pub eval_every: usize,
    /// Optimiser of every phase; its moments start afresh in each.
    pub optimizer: OptimizerSettings,
    /// Augmentation of images trained on with labels.
    pub augment: AugmentSettings,
}

impl Default for FedMdConfig {
    fn default() -> Self {
        Self {
            save_folder: None,
            ranks: None.into(),
            rounds: 10,
            public_node: None,
            public: None,
            public_samples: Some(5000),
            models: None,
            weights: None,
            shared_initialisation: false,
            public_epochs: 10,
            private_epochs: 10,
            digest_epochs: 1,
            revisit_epochs: 2,
            batch_size: 64,
            digest_batch_size: None,
            digest_loss: DigestLoss::Absolute,
            eval_batch_size: 1024.into(),
            eval_every: 1,
            optimizer: OptimizerSettings::adam(1e-3),
            augment: AugmentSettings::default(),
        }
    }
}

/// Holds config group `distributed_sgd`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DistributedSgdConfig {
    /// Folder of `model.safetensors`, `metrics.jsonl` and `metrics.json`.
    pub save_folder: Option<FilePath>,
    /// Who holds the model, and what travels.
    pub method: Method,
    /// Ranks that share each batch; `centralised` uses one. `null`: those that MPI started, or two.
    #[schemars(range(min = 1, max = 1024))]
    pub ranks: Option<usize>,
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
    /// Images in an evaluation batch; changes speed and memory, not results.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_batch_size: Free<usize>,
    /// Optimiser of the model.
    pub optimizer: OptimizerSettings,
    /// Augmentation of the training images.
    pub augment: AugmentSettings,
}

impl Default for DistributedSgdConfig {
    fn default() -> Self {
        Self {
            save_folder: None,
            method: Method::Centralised,
            ranks: None,
            epochs: 3,
            batch_size: 100,
            parts: 1,
            report_every: 200,
            eval_batch_size: 1024.into(),
            optimizer: OptimizerSettings::sgd(0.01, 0.9),
            augment: AugmentSettings {
                crop: 0,
                flip: false,
            },
        }
    }
}
