//! Holds the typed config: one struct a group, closed (an unknown key is an error), every key with
//! a default.
//!
//! `null` stands for "not given". `Config::default()` is the bottom layer of every composition. A
//! number's range is an attribute of its field, in the words of JSON schema.

mod federated;
mod split;
mod stages;

pub use federated::{DistributedSgdConfig, FedAvgConfig, FedMdConfig, RanksConfig};
pub use split::{SplitConfig, recorded};
pub use stages::{
    CheckpointConfig, CountsFrom, DistillSettings, InitialConfig, LabelCounts, Objective, Padding,
    Soften, StudentConfig, StudentInit, TeacherConfig,
};

use crate::data::DatasetSettings;
use crate::generator::GeneratorSettings;
use crate::inversion::{EnsembleKind, InversionSettings};
use crate::model::{ModelSettings, PrecisionChoice};
use crate::setting::Free;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Holds the whole config. All stage binaries share it, so that one set of overrides can be given
/// to each of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Root seed of everything but the student's training, which has its own.
    pub seed: u64,
    /// Device to compute on: `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: Free<String>,
    /// Number type of convolutions. A result belongs to what `auto` meant where it was made.
    pub precision: PrecisionChoice,
    /// Whether CUDA gives the same bytes every time, by slower convolutions; a CPU does anyway.
    pub deterministic: Free<bool>,
    /// Number of CPU threads that compute; `null` takes all cores, as decoding images does anyway.
    #[schemars(range(min = 1))]
    pub threads: Free<Option<usize>>,
    /// Whether to resume what an earlier run left at the same path.
    pub resume: Free<bool>,
    /// Whether to replace what an earlier run left at the same path.
    pub overwrite: Free<bool>,
    /// Folder that the paths of splits and experiments begin with, as `${outputs}`.
    #[schemars(extend("minimum" = 1))]
    pub outputs: Free<PathBuf>,
    /// Whether to write TensorBoard event files beside the metrics.
    pub tensorboard: Free<bool>,
    pub checkpoint: Free<CheckpointConfig>,
    pub ranks: Free<RanksConfig>,
    pub dataset: DatasetSettings,
    pub model: ModelSettings,
    pub split: SplitConfig,
    pub teacher: TeacherConfig,
    pub deep_inv: InversionSettings,
    /// A generator that makes the synthetic batches; `null`: inversion makes them.
    pub generator: Option<GeneratorSettings>,
    pub initial: InitialConfig,
    pub student: StudentConfig,
    pub fed_avg: FedAvgConfig,
    pub fed_md: FedMdConfig,
    pub distributed_sgd: DistributedSgdConfig,
}

impl Config {
    /// Returns the number of images of a synthetic batch.
    pub fn synthetic_batch(&self) -> usize {
        let generator = self.generator.as_ref();
        generator.map_or(self.deep_inv.batch_size, |settings| settings.batch_size)
    }

    /// Returns the rule that combines the teachers' predictions while a batch is made.
    pub fn synthesis_ensemble(&self) -> EnsembleKind {
        let generator = self.generator.as_ref();
        generator.map_or(self.deep_inv.ensemble, |settings| settings.ensemble)
    }

    /// Returns the rule by which the student is distilled.
    pub fn student_ensemble(&self) -> EnsembleKind {
        let own = self.student.distill.ensemble;
        own.unwrap_or(self.synthesis_ensemble())
    }

    /// Returns true if a rule in use weighs the teachers' logits, so that their weights matter.
    pub fn weighs_teachers(&self) -> bool {
        [self.synthesis_ensemble(), self.student_ensemble()].contains(&EnsembleKind::WeightedLogits)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 42,
            device: Free("auto".into()),
            precision: PrecisionChoice::Auto,
            deterministic: false.into(),
            threads: None.into(),
            resume: false.into(),
            overwrite: false.into(),
            outputs: Free("outputs".into()),
            tensorboard: true.into(),
            checkpoint: Free::default(),
            ranks: Free::default(),
            dataset: DatasetSettings::default(),
            model: ModelSettings::default(),
            split: SplitConfig::default(),
            teacher: TeacherConfig::default(),
            deep_inv: InversionSettings::default(),
            generator: None,
            initial: InitialConfig::default(),
            student: StudentConfig::default(),
            fed_avg: FedAvgConfig::default(),
            fed_md: FedMdConfig::default(),
            distributed_sgd: DistributedSgdConfig::default(),
        }
    }
}
