//! Defines the settings of a training run: optimiser, schedule, augmentation, selection.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Holds the settings of an optimiser: its update rule, and what every rule has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OptimizerSettings {
    /// Update rule, with the settings that it alone has.
    #[serde(flatten)]
    pub kind: OptimizerKind,
    /// Learning rate before the schedule.
    #[schemars(range(min = 0))]
    pub lr: f64,
    /// L2 penalty, whose gradient is added as in PyTorch.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Largest Euclidean norm of the gradient of all parameters: a longer one is scaled down to it
    /// (Pascanu et al. 2013, arXiv:1211.5063). `null`: no limit.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
}

/// Chooses an update rule; in a config its name stands under `kind`, beside its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Steps against the gradient, or its running sum.
    Sgd(SgdMomentum),
    /// Scales the steps by the gradient's moments (Kingma and Ba 2015, arXiv:1412.6980).
    Adam(AdamMoments),
}

/// Holds what SGD alone has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SgdMomentum {
    /// Share of the running sum that a step keeps.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Whether the step looks ahead by the momentum (Nesterov's form).
    pub nesterov: bool,
}

/// Holds what Adam alone has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdamMoments {
    /// Decay rates of the two moments.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub betas: [f64; 2],
    /// Number added to the denominator, ε.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
}

impl Default for SgdMomentum {
    fn default() -> Self {
        Self {
            momentum: 0.9,
            nesterov: false,
        }
    }
}

impl Default for AdamMoments {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            eps: 1e-8,
        }
    }
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            weight_decay: 5e-4,
            ..Self::sgd(0.1, 0.9)
        }
    }
}

impl OptimizerSettings {
    /// Returns SGD without weight decay.
    pub fn sgd(lr: f64, momentum: f64) -> Self {
        let kind = OptimizerKind::Sgd(SgdMomentum {
            momentum,
            nesterov: false,
        });
        Self {
            kind,
            lr,
            weight_decay: 0.0,
            clip_norm: None,
        }
    }

    /// Returns Adam with its usual moments, without weight decay.
    pub fn adam(lr: f64) -> Self {
        Self {
            kind: OptimizerKind::Adam(AdamMoments::default()),
            lr,
            weight_decay: 0.0,
            clip_norm: None,
        }
    }
}

/// Says how the learning rate moves; in a config the name stands under `kind`, beside its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ScheduleSettings {
    /// Stays at `lr`.
    Constant,
    /// Is multiplied by `gamma` at each epoch of `milestones` (PyTorch's MultiStepLR).
    Milestones(Milestones),
    /// Falls by half a cosine from `lr` to zero, a step each epoch (CosineAnnealingLR).
    Cosine,
    /// Rises linearly to `lr` and falls linearly to zero, a step each batch.
    OneCycle(OneCycle),
}

/// Holds what [`ScheduleSettings::Milestones`] has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Milestones {
    /// Epochs at which the rate is multiplied.
    pub milestones: Vec<usize>,
    /// Factor of each of them.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub gamma: f64,
}

/// Holds what [`ScheduleSettings::OneCycle`] has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OneCycle {
    /// Share of all steps in which the rate rises.
    #[schemars(range(min = 0, max = 1))]
    pub warmup: f64,
}

impl Default for Milestones {
    fn default() -> Self {
        Self {
            milestones: vec![150, 250],
            gamma: 0.1,
        }
    }
}

impl Default for OneCycle {
    fn default() -> Self {
        Self { warmup: 0.2 }
    }
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self::Milestones(Milestones::default())
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
    /// The one of highest accuracy on the node's own part of the test set, as the public Python
    /// project does with teachers of some classes; as optimistic as `best_test`.
    BestOwnTest,
}
