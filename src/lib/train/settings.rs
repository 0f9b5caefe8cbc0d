//! Settings of a training run that several config groups share: optimiser, schedule, augmentation,
//! selection.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Update rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    Sgd,
    Adam,
}

/// `teacher.optimizer`, `student.optimizer`.
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
    /// L2 penalty added to the gradient, as in PyTorch.
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

/// How the learning rate moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    Constant,
    /// Times `gamma` at each epoch of `milestones` (PyTorch's MultiStepLR).
    Milestones,
    /// Half a cosine from `lr` to zero over all epochs, a step each epoch (CosineAnnealingLR).
    Cosine,
    /// Linear up to `lr` over `warmup` of all steps, linear down to zero after, a step each batch.
    OneCycle,
}

/// `teacher.schedule`, `student.schedule`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleSettings {
    pub kind: ScheduleKind,
    /// Epochs at which `milestones` multiplies the rate.
    pub milestones: Vec<usize>,
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub gamma: f64,
    /// Share of all steps that `one_cycle` spends going up.
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

/// Random changes of training images, drawn for whole batches on the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentSettings {
    /// Pixels of zero padding around an image before a random crop of the original size; 0 switches
    /// it off.
    #[schemars(range(min = 0))]
    pub crop: i64,
    /// Mirror half of the images left to right.
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

/// Which epoch's weights are saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    #[default]
    Last,
    /// Highest accuracy on the test set (as the EPFL pipeline does; optimistic, since the test set
    /// chooses).
    BestTest,
    /// Highest accuracy on images held out of the training split.
    BestValidation,
}
