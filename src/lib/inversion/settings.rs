//! Defines the settings of inversion: how synthetic batches are made. The stages read them from the
//! config group `deep_inv`.

use super::start::Start;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Holds the scales of the published loss terms (Yin et al. 2020, arXiv:1912.08795, eq. 1–8);
/// cross-entropy has scale 1.
#[derive(Clone, Debug, PartialEq)]
pub struct LossScales {
    pub l2_scale: f64,
    pub var_scale: f64,
    pub bn_scale: f64,
    pub comp_scale: f64,
}

/// Holds the scales of the terms of the teachers that a batch is *not* made from; experiments of
/// the EPFL report use them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OtherScales {
    pub entropy_scale: f64,
    pub rival_scale: f64,
}

impl OtherScales {
    /// Returns `true` when one of the terms has a scale other than zero.
    pub fn in_use(&self) -> bool {
        *self != Self::default()
    }
}

/// Holds the scales of all loss terms in one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossSettings {
    /// ‖x‖₂ of the whole batch: grows with the root of its N images, while the cross-entropy is a
    /// mean. For another N the same pull on an image needs √(N/N′) times the scale.
    #[schemars(range(min = 0))]
    pub l2_scale: f64,
    /// Total variation in four directions, a sum of norms over the whole batch; depends on its size
    /// as `l2_scale` does.
    #[schemars(range(min = 0))]
    pub var_scale: f64,
    /// Distance of each batch-norm input's statistics from the running ones, summed over layers.
    #[schemars(range(min = 0))]
    pub bn_scale: f64,
    /// Competition with the student: 1 − Jensen-Shannon divergence. Only when a student takes part:
    /// in `adi`; in `di` there is none.
    #[schemars(range(min = 0))]
    pub comp_scale: f64,
    /// Entropy of the other teachers' predictions (`losses::entropy`), in `cycle` mode. Positive
    /// makes them sure of the batch, as the public Python project's code does; negative leaves them
    /// undecided.
    pub entropy_scale: f64,
    /// The other teachers' highest probability for a wrong class (`losses::rival`), in `cycle`
    /// mode.
    pub rival_scale: f64,
}

impl LossSettings {
    /// Returns the scales of the published terms.
    pub fn published(&self) -> LossScales {
        LossScales {
            l2_scale: self.l2_scale,
            var_scale: self.var_scale,
            bn_scale: self.bn_scale,
            comp_scale: self.comp_scale,
        }
    }

    /// Returns the scales of the terms of the other teachers.
    pub fn others(&self) -> OtherScales {
        OtherScales {
            entropy_scale: self.entropy_scale,
            rival_scale: self.rival_scale,
        }
    }
}

impl Default for LossSettings {
    fn default() -> Self {
        Self {
            l2_scale: 0.0,
            var_scale: 1e-3,
            bn_scale: 10.0,
            comp_scale: 10.0,
            entropy_scale: 0.0,
            rival_scale: 0.0,
        }
    }
}

/// Holds the settings of one of the two phases: `di`, before a student exists, or `adi`, against a
/// student.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseSettings {
    pub loss: LossSettings,
    /// Number of Adam steps on each batch.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub grad_updates_batch: usize,
    /// Rolls the batch by −2..2 pixels in both directions at every step.
    pub input_jitter: bool,
}

impl Default for PhaseSettings {
    fn default() -> Self {
        Self {
            loss: LossSettings::default(),
            grad_updates_batch: 1000,
            input_jitter: true,
        }
    }
}

/// Holds the settings of the Adam that changes the pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PixelOptimizer {
    /// Learning rate of the pixels, which are normalised.
    #[schemars(range(min = 0))]
    pub lr: f64,
    /// Decay rates of the two moments.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub betas: [f64; 2],
    /// Number added to the denominator, ε.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
}

impl Default for PixelOptimizer {
    fn default() -> Self {
        Self {
            lr: 0.1,
            betas: [0.9, 0.999],
            eps: 1e-8,
        }
    }
}

/// Selects how a step's loss and gradient are computed; in float32 the numbers agree to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Takes `fused` for the teachers that have such a path, and `plain` for the others.
    Auto,
    /// Freezes the weights and computes a backward pass that is written out: residual networks.
    Fused,
    /// Uses libtorch's operations and autograd: any network, any device.
    Plain,
}

/// Selects the teachers that a batch is optimised against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TeacherMode {
    /// Takes one teacher a batch, in turn.
    Cycle,
    /// Draws `n` of N teachers without replacement; the loss is the mean of theirs.
    Sample,
    /// Takes all at once: the ensemble's prediction, the mean of the batch-norm terms.
    Ensemble,
}

/// Selects how long a sample of teachers is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplePer {
    Step,
    Batch,
}

/// Holds which teachers make a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherSampling {
    pub mode: TeacherMode,
    /// Teachers a sample holds (`mode: sample`).
    #[schemars(range(min = 1))]
    pub n: usize,
    pub per: SamplePer,
    /// Restricts each teacher's cross-entropy, competition and terms of the others to the classes
    /// it was trained on, and the labels of its batches; in `sample` mode its cross-entropy is
    /// weighted by its shares of the labels as well.
    pub mask: bool,
}

impl Default for TeacherSampling {
    fn default() -> Self {
        Self {
            mode: TeacherMode::Cycle,
            n: 1,
            per: SamplePer::Step,
            mask: true,
        }
    }
}

/// Selects how the teachers' predictions become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnsembleKind {
    MeanLogits,
    MeanSoftmax,
    /// Weighs the softmaxes class by class with each teacher's share of that class's training
    /// images, and renormalises.
    LabelShare,
    /// Weighs each teacher's softmax with its share of the training images of the label y that an
    /// image was made for: p(x) = Σᵢ nᵢ(y) / Σⱼ nⱼ(y) · softmax(zᵢ(x) / T). An image of unknown
    /// label is combined as by `label_share`, which scores every class as if it were the label.
    LabelGated,
    /// Takes the mean softmax of the teachers that an image was made from: of that one in `cycle`
    /// mode, else of all.
    MadeFrom,
    /// Takes the mean of the logits, each teacher's with a weight of 0..1 that is 1/N at first and
    /// that the student's training may learn.
    WeightedLogits,
}

impl EnsembleKind {
    /// Returns the rule for images of which nothing is known, as test images.
    pub fn of_unknown(self) -> Self {
        match self {
            Self::LabelGated => Self::LabelShare,
            Self::MadeFrom => Self::MeanSoftmax,
            other => other,
        }
    }
}

/// Writes the name that serde writes: `label_share`, …
impl fmt::Display for EnsembleKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(out)
    }
}

/// Selects the images of a batch's optimisation that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Keeps those of the lowest loss, as they were rolled. Where a step draws its own teachers, it
    /// compares losses of different ones.
    Best,
    /// Keeps those after the last step.
    Last,
}

/// Selects the labels that a synthetic batch is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelSampling {
    /// Draws uniformly from the allowed classes.
    Random,
    /// Takes every allowed class equally often (up to one), in random order.
    Balanced,
    /// Draws with `label_weights`.
    Weighted,
    /// Draws in the proportions that the teachers were trained on, which is what their batch-norm
    /// statistics describe.
    TeacherShare,
}

/// Holds the settings of inversion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InversionSettings {
    /// Number of images in a synthetic batch.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_size: usize,
    /// What the images of a batch are before the first step.
    pub start: Start,
    /// Pictures of shapes that are drawn for each image that starts from one. With more than one,
    /// the teachers choose: every other image starts from the picture that their joint prediction
    /// (`ensemble`) takes most surely for its label.
    #[schemars(range(min = 1, max = 1_000))]
    pub candidates: usize,
    pub di: PhaseSettings,
    pub adi: PhaseSettings,
    pub optimizer: PixelOptimizer,
    /// Carries Adam's moments from batch to batch, as the public Python project does: in `cycle`
    /// mode those of each teacher, else those of all. Each stage begins without any.
    pub keep_moments: bool,
    /// Images that are kept of a batch's optimisation.
    pub keep: Keep,
    pub engine: EngineKind,
    pub teachers: TeacherSampling,
    pub ensemble: EnsembleKind,
    pub labels: LabelSampling,
    /// One weight for each class, for `labels: weighted`.
    #[schemars(extend("minimum" = 0))]
    pub label_weights: Option<Vec<f64>>,
}

impl Default for InversionSettings {
    fn default() -> Self {
        Self {
            batch_size: 256,
            start: Start::Noise,
            candidates: 1,
            di: PhaseSettings::default(),
            adi: PhaseSettings::default(),
            optimizer: PixelOptimizer::default(),
            keep_moments: false,
            keep: Keep::Best,
            engine: EngineKind::Auto,
            teachers: TeacherSampling::default(),
            ensemble: EnsembleKind::LabelShare,
            labels: LabelSampling::Random,
            label_weights: None,
        }
    }
}
