//! The typed config: one struct a group, closed (an unknown key is an error), every key with a
//! default.
//!
//! `null` stands for "not given". `Config::default()` is the bottom layer of every composition;
//! `Config::reference()` is the tree of all keys there are, with optional groups filled in.

mod federated;
mod split;
mod stages;

pub use federated::{DistributedSgdConfig, FedAvgConfig, FedMdConfig, RanksConfig};
pub use split::{SizeLaw, SplitConfig, SplitKind};
pub use stages::{
    CheckpointConfig, DistillSettings, InitialConfig, Objective, StudentConfig, TeacherConfig,
};

use crate::data::DatasetSettings;
use crate::inversion::InversionSettings;
use crate::model::{ModelSettings, PrecisionChoice};
use serde::{Deserialize, Serialize};

/// The whole config. All stage binaries share it, so that one set of overrides can be given to each
/// of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Root seed of everything but the student's training, which has its own.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// What convolutions are computed in. A result belongs to what `auto` meant where it was made.
    pub precision: PrecisionChoice,
    /// On CUDA: the same bytes every time, by slower convolutions. The CPU's are the same anyway.
    pub deterministic: bool,
    /// CPU threads; `null` takes all cores.
    pub threads: Option<usize>,
    /// Go on with what an earlier run left in the same place.
    pub resume: bool,
    /// Replace what an earlier run left in the same place.
    pub overwrite: bool,
    /// Write TensorBoard event files beside the metrics.
    pub tensorboard: bool,
    pub checkpoint: CheckpointConfig,
    pub ranks: RanksConfig,
    pub dataset: DatasetSettings,
    pub model: ModelSettings,
    pub split: SplitConfig,
    pub teacher: TeacherConfig,
    pub deep_inv: InversionSettings,
    pub initial: InitialConfig,
    pub student: StudentConfig,
    pub fed_avg: FedAvgConfig,
    pub fed_md: FedMdConfig,
    pub distributed_sgd: DistributedSgdConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 42,
            device: "auto".into(),
            precision: PrecisionChoice::Auto,
            deterministic: false,
            threads: None,
            resume: false,
            overwrite: false,
            tensorboard: true,
            checkpoint: CheckpointConfig::default(),
            ranks: RanksConfig::default(),
            dataset: DatasetSettings::default(),
            model: ModelSettings::default(),
            split: SplitConfig::default(),
            teacher: TeacherConfig::default(),
            deep_inv: InversionSettings::default(),
            initial: InitialConfig::default(),
            student: StudentConfig::default(),
            fed_avg: FedAvgConfig::default(),
            fed_md: FedMdConfig::default(),
            distributed_sgd: DistributedSgdConfig::default(),
        }
    }
}

impl Config {
    /// The default with optional groups present, so that their keys are known.
    pub fn reference() -> Self {
        let mut config = Self::default();
        config.student.model = Some(ModelSettings::default());
        config.fed_md.public = Some(DatasetSettings::default());
        config
    }
}
