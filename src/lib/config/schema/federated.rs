//! Holds the config groups of the multi-round baselines: the settings of their engines, and what
//! only a stage reads.

use crate::data::DatasetSettings;
use crate::federated::distributed_sgd::{Method, SgdSettings};
use crate::federated::fed_avg::FedAvgSettings;
use crate::federated::fed_md::FedMdSettings;
use crate::federated::transport::TIMEOUT;
use crate::model::ModelSettings;
use crate::setting::{FilePath, Free};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Holds config group `ranks`: what applies to ranks that share the work of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RanksConfig {
    /// Seconds that a rank may be silent while another waits for it; after them the run fails.
    /// Longer than the longest step, evaluation batch or loading of data that a rank does.
    #[schemars(range(min = 1))]
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
#[serde(default)]
pub struct FedAvgConfig {
    /// Folder of `global.safetensors`, `metrics.jsonl` and `metrics.json`.
    pub save_folder: Option<FilePath>,
    /// Ranks that share the nodes; changes no result, with as many `threads` for each. `null`:
    /// those that MPI started, or one.
    #[schemars(range(min = 1, max = 1024))]
    pub ranks: Free<Option<usize>>,
    #[serde(flatten)]
    pub settings: FedAvgSettings,
    /// Images in an evaluation batch; changes speed and memory, not results.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_batch_size: Free<usize>,
    /// Rounds from one evaluation of the global model to the next; the last is always evaluated.
    #[schemars(range(min = 1))]
    pub eval_every: usize,
    /// Whether the global model is evaluated on all training images as well.
    pub eval_train: bool,
}

impl Default for FedAvgConfig {
    fn default() -> Self {
        Self {
            save_folder: None,
            ranks: None.into(),
            settings: FedAvgSettings::default(),
            eval_batch_size: 1024.into(),
            eval_every: 1,
            eval_train: false,
        }
    }
}

/// Holds config group `fed_md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FedMdConfig {
    /// Folder of `model_node{i}.safetensors`, `metrics.jsonl` and `metrics.json`.
    pub save_folder: Option<FilePath>,
    /// Ranks that share the clients; changes no result, with as many `threads` for each. `null`:
    /// those that MPI started, or one.
    #[schemars(range(min = 1, max = 1024))]
    pub ranks: Free<Option<usize>>,
    /// The node of the split whose training images are public; `null`: the last.
    pub public_node: Option<usize>,
    /// Another dataset whose training images are public; `null`: those of `public_node`.
    pub public: Option<DatasetSettings>,
    /// The clients' architectures, dealt in turn: options of group `model` by name, or their keys.
    /// `null`: `model` for all.
    pub models: Option<Vec<ModelSettings>>,
    #[serde(flatten)]
    pub settings: FedMdSettings,
    /// Images in an evaluation batch; changes speed and memory, not results.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_batch_size: Free<usize>,
}

impl Default for FedMdConfig {
    fn default() -> Self {
        Self {
            save_folder: None,
            ranks: None.into(),
            public_node: None,
            public: None,
            models: None,
            settings: FedMdSettings::default(),
            eval_batch_size: 1024.into(),
        }
    }
}

/// Holds config group `distributed_sgd`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DistributedSgdConfig {
    /// Folder of `model.safetensors`, `metrics.jsonl` and `metrics.json`.
    pub save_folder: Option<FilePath>,
    /// Who holds the model, and what travels.
    pub method: Method,
    /// Ranks that share each batch; `centralised` uses one. `null`: those that MPI started, or two.
    #[schemars(range(min = 1, max = 1024))]
    pub ranks: Option<usize>,
    #[serde(flatten)]
    pub settings: SgdSettings,
    /// Images in an evaluation batch; changes speed and memory, not results.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub eval_batch_size: Free<usize>,
}

impl Default for DistributedSgdConfig {
    fn default() -> Self {
        Self {
            save_folder: None,
            method: Method::Centralised,
            ranks: None,
            settings: SgdSettings::default(),
            eval_batch_size: 1024.into(),
        }
    }
}
