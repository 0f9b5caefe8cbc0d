//! Config group `deep_inv`: how synthetic batches are made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scales of the published loss terms (Yin et al. 2020, arXiv:1912.08795, eq. 1–8); cross-entropy
/// has scale 1.
#[derive(Clone, Debug, PartialEq)]
pub struct LossScales {
    pub l2_scale: f64,
    pub var_scale: f64,
    pub bn_scale: f64,
    pub comp_scale: f64,
}

/// Scales of the terms that look at the teachers a batch is *not* made from; experiments of the
/// EPFL report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OtherScales {
    pub entropy_scale: f64,
    pub rival_scale: f64,
}

impl OtherScales {
    /// Whether any of them counts.
    pub fn in_use(&self) -> bool {
        *self != Self::default()
    }
}

/// `deep_inv.di.loss`, `deep_inv.adi.loss`: the scales of all loss terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossSettings {
    /// ‖x‖₂ of the whole batch.
    #[schemars(range(min = 0))]
    pub l2_scale: f64,
    /// Total variation in four directions.
    #[schemars(range(min = 0))]
    pub var_scale: f64,
    /// Distance of each batch-norm input's statistics from the running ones, summed over layers.
    #[schemars(range(min = 0))]
    pub bn_scale: f64,
    /// Competition with the student: 1 − Jensen-Shannon divergence. Only when a student takes part.
    #[schemars(range(min = 0))]
    pub comp_scale: f64,
    /// Entropy of the other teachers' predictions ([`super::losses::entropy`]), in `cycle` mode.
    /// Positive makes them sure of the batch, as the public Python project's code does; negative
    /// leaves them undecided.
    pub entropy_scale: f64,
    /// The other teachers' highest probability for a wrong class ([`super::losses::rival`]), in
    /// `cycle` mode.
    pub rival_scale: f64,
}

impl LossSettings {
    /// The published terms.
    pub fn published(&self) -> LossScales {
        LossScales {
            l2_scale: self.l2_scale,
            var_scale: self.var_scale,
            bn_scale: self.bn_scale,
            comp_scale: self.comp_scale,
        }
    }

    /// The terms of the other teachers.
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

/// `deep_inv.di` (before a student exists) and `deep_inv.adi` (against a student).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseSettings {
    pub loss: LossSettings,
    /// Adam steps on each batch.
    #[schemars(range(min = 1))]
    pub grad_updates_batch: usize,
    /// Roll the batch by −2..2 pixels in both directions at every step.
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

/// Adam on the pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PixelOptimizer {
    #[schemars(range(min = 0))]
    pub lr: f64,
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub betas: [f64; 2],
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

/// How a step's loss and gradient are computed; the numbers agree to float32 rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// `fused` where every teacher has such a path, else `plain`.
    Auto,
    /// Frozen weights and a backward pass written out: residual networks.
    Fused,
    /// libtorch's operations and autograd: any network, any device.
    Plain,
}

/// Which teachers a batch is optimised against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TeacherMode {
    /// One teacher a batch, in turn.
    Cycle,
    /// `n` of N teachers, drawn without replacement; the loss is the mean of theirs.
    Sample,
    /// All at once: the ensemble's prediction, the mean of the batch-norm terms.
    Ensemble,
}

/// How long a sample of teachers is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplePer {
    Step,
    Batch,
}

/// `deep_inv.teachers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherSampling {
    pub mode: TeacherMode,
    /// Teachers a sample holds (`mode: sample`).
    #[schemars(range(min = 1))]
    pub n: usize,
    pub per: SamplePer,
    /// Restrict each teacher's cross-entropy and competition to the classes it was trained on.
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

/// How teachers' predictions become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnsembleKind {
    MeanLogits,
    MeanSoftmax,
    /// Softmaxes weighted class by class with each teacher's share of that class's training images,
    /// renormalised.
    LabelShare,
}

/// What labels a synthetic batch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelSampling {
    /// Uniformly at random over the allowed classes.
    Random,
    /// Every allowed class equally often (up to one), in random order.
    Balanced,
    /// At random with `label_weights`.
    Weighted,
    /// At random in the proportions the teachers were trained on, which is what their batch-norm
    /// statistics describe.
    TeacherShare,
}

/// Config group `deep_inv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InversionSettings {
    /// Images in a synthetic batch.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_size: usize,
    pub di: PhaseSettings,
    pub adi: PhaseSettings,
    pub optimizer: PixelOptimizer,
    /// Carry Adam's moments from batch to batch, as the public Python project does.
    pub keep_moments: bool,
    pub engine: EngineKind,
    pub teachers: TeacherSampling,
    pub ensemble: EnsembleKind,
    pub labels: LabelSampling,
    /// One weight a class, for `labels: weighted`.
    #[schemars(extend("minimum" = 0))]
    pub label_weights: Option<Vec<f64>>,
}

impl Default for InversionSettings {
    fn default() -> Self {
        Self {
            batch_size: 256,
            di: PhaseSettings::default(),
            adi: PhaseSettings::default(),
            optimizer: PixelOptimizer::default(),
            keep_moments: false,
            engine: EngineKind::Auto,
            teachers: TeacherSampling::default(),
            ensemble: EnsembleKind::LabelShare,
            labels: LabelSampling::Random,
            label_weights: None,
        }
    }
}
