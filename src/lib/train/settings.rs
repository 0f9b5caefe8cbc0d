//! Defines the settings of a training run: optimiser, schedule, augmentation, selection.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names an update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    Sgd,
    Adam,
}

/// Holds the settings of an optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerSettings {
    pub kind: OptimizerKind,
    /// Learning rate before the schedule.
    #[schemars(range(min = 0))]
    pub lr: f64,
    /// SGD's momentum.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub momentum: f64,
    pub nesterov: bool,
    /// L2 penalty, whose gradient is added as in PyTorch.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Adam's decay rates of the two moments.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub betas: [f64; 2],
    /// Adam's ε.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Sgd,
            lr: 0.1,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 5e-4,
            betas: [0.9, 0.999],
            eps: 1e-8,
        }
    }
}

/// Names a course of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    Constant,
    /// Multiplies the rate by `gamma` at each epoch of `milestones` (PyTorch's MultiStepLR).
    Milestones,
    /// Follows half a cosine from `lr` to zero over all epochs, with a step each epoch (PyTorch's
    /// CosineAnnealingLR).
    Cosine,
    /// Rises linearly to `lr` over `warmup` of all steps and falls linearly to zero after, with a
    /// step each batch.
    OneCycle,
}

/// Holds the settings of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleSettings {
    pub kind: ScheduleKind,
    /// Epochs at which `milestones` multiplies the rate.
    pub milestones: Vec<usize>,
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub gamma: f64,
    /// Share of all steps over which `one_cycle` rises.
    #[schemars(range(min = 0, max = 1))]
    pub warmup: f64,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Milestones,
            milestones: vec![150, 250],
            gamma: 0.1,
            warmup: 0.2,
        }
    }
}

/// Holds the settings of random changes of training images, which are drawn for whole batches on
/// the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentSettings {
    /// Pixels of zero padding around an image before a random crop of the original size; 0 switches
    /// it off.
    #[schemars(range(min = 0))]
    pub crop: i64,
    /// Mirrors half of the images left to right.
    pub flip: bool,
}

impl Default for AugmentSettings {
    fn default() -> Self {
        Self {
            crop: 4,
            flip: true,
        }
    }
}

/// Selects the epoch whose weights are saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    #[default]
    Last,
    /// The one of highest accuracy on the test set (as the EPFL pipeline does; optimistic, since
    /// the test set chooses).
    BestTest,
    /// The one of highest accuracy on images held out of the training split.
    BestValidation,
}
