//! Defines the settings of a generator. The stages read them from the config group `generator`.

use crate::inversion::{EnsembleKind, LabelSampling};
use crate::train::{AdamMoments, AugmentSettings, OptimizerKind, OptimizerSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Holds the terms of a generator's loss. Each is a mean over the batch unless it says otherwise; a
/// scale of 0 leaves a term out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorLoss {
    /// Scale of the cross-entropy of the teachers' joint prediction with the labels.
    #[schemars(range(min = 0))]
    pub cross_entropy: f64,
    /// Exponent γ that weighs an image's cross-entropy with (1 − p)^γ, where p is the joint
    /// probability of its label: hard images count more.
    #[schemars(range(min = 0))]
    pub hardness: f64,
    /// Scale of the distance of the batch-norm statistics, summed over layers, a mean over
    /// teachers.
    #[schemars(range(min = 0))]
    pub batch_norm: f64,
    /// Scale of the divergence T² · KL(teachers ‖ student), which the generator maximises. Only
    /// when a student takes part.
    #[schemars(range(min = 0))]
    pub divergence: f64,
    /// T of the divergence.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Whether only images count in the divergence whose class teachers and student predict
    /// differently.
    pub disagreeing: bool,
    /// Scale of the mean absolute activation of the teachers' last layer but one, which the
    /// generator maximises.
    #[schemars(range(min = 0))]
    pub activation: f64,
    /// Scale of the entropy of the joint prediction's mean over the batch, which the generator
    /// maximises: all classes are made.
    #[schemars(range(min = 0))]
    pub information: f64,
}

impl Default for GeneratorLoss {
    fn default() -> Self {
        Self {
            cross_entropy: 1.0,
            hardness: 0.0,
            batch_norm: 1.0,
            divergence: 1.0,
            temperature: 1.0,
            disagreeing: true,
            activation: 0.0,
            information: 0.0,
        }
    }
}

/// Selects the labels of a generator's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeneratorLabels {
    /// Draws them uniformly from the classes that some teacher has seen.
    Random,
    /// Takes every such class equally often (up to one), in random order.
    Balanced,
    /// Draws them in the proportions that the teachers were trained on.
    TeacherShare,
    /// Takes those that the teachers jointly predict for the images.
    Predicted,
}

impl GeneratorLabels {
    /// Returns how labels are drawn, and `None` where they are predicted.
    pub(super) fn sampling(self) -> Option<LabelSampling> {
        match self {
            Self::Random => Some(LabelSampling::Random),
            Self::Balanced => Some(LabelSampling::Balanced),
            Self::TeacherShare => Some(LabelSampling::TeacherShare),
            Self::Predicted => None,
        }
    }
}

/// Holds the settings of a generator and of its training; the defaults are DENSE's (Zhang et al.
/// 2022, arXiv:2112.12371).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorSettings {
    /// Number of images in a synthetic batch.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_size: usize,
    /// Values of noise that an image is made from.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub noise: i64,
    /// Channels of the last hidden layer; those before have twice as many.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub width: i64,
    /// Optimiser's steps on each batch.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub steps: usize,
    /// Optimiser of the weights, and of the noise; the limit on a gradient's norm is for the
    /// weights alone.
    pub optimizer: OptimizerSettings,
    /// Whether a batch begins with the weights of the one before, instead of new ones.
    pub persistent: bool,
    /// Whether a batch's noise is drawn once and optimised with the weights, or drawn anew at each
    /// step.
    pub learn_noise: bool,
    pub loss: GeneratorLoss,
    /// Augmentation of the images before teachers and student see them.
    pub augment: AugmentSettings,
    pub ensemble: EnsembleKind,
    pub labels: GeneratorLabels,
}

impl Default for GeneratorSettings {
    fn default() -> Self {
        let moments = AdamMoments {
            betas: [0.5, 0.999],
            ..AdamMoments::default()
        };
        Self {
            batch_size: 256,
            noise: 256,
            width: 64,
            steps: 30,
            optimizer: OptimizerSettings {
                kind: OptimizerKind::Adam(moments),
                ..OptimizerSettings::adam(1e-3)
            },
            persistent: false,
            learn_noise: true,
            loss: GeneratorLoss::default(),
            augment: AugmentSettings::default(),
            ensemble: EnsembleKind::MeanLogits,
            labels: GeneratorLabels::Random,
        }
    }
}
