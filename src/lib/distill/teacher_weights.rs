//! Learns how much each teacher's logits count in their mean, on the images that the student trains
//! on (Dai et al. 2024, arXiv:2402.15070, eq. 9 and 10). Called by
//! [`AdaptiveSource`](super::AdaptiveSource).

use crate::error::Result;
use crate::inversion::{Teacher, weighted_mean};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

/// Holds the settings of teachers' weights that are learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherWeightSettings {
    /// Change of each weight at each batch of the pass over the synthetic images that every epoch
    /// but the first begins with; 0 learns nothing.
    #[schemars(range(min = 0, max = 1))]
    pub step: f64,
    /// Factor on the step from epoch to epoch.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub decay: f64,
}

impl Default for TeacherWeightSettings {
    fn default() -> Self {
        Self {
            step: 0.0,
            decay: 0.99,
        }
    }
}

/// Holds one weight for each teacher: w ← clamp(w − s·dᵉ·sign ∇CE, 0, 1), where CE is the
/// cross-entropy of softmax(Σ wᵢ zᵢ / Σ wᵢ) with the labels, s the step, d its decay and e the
/// epoch.
#[derive(Debug)]
pub struct TeacherWeights<'a> {
    teachers: Vec<&'a Teacher>,
    settings: TeacherWeightSettings,
    /// f32 `[teachers]`; ensembles follow it.
    pub values: Tensor,
}

impl<'a> TeacherWeights<'a> {
    /// Returns weights of 1/N.
    pub fn new(teachers: Vec<&'a Teacher>, settings: TeacherWeightSettings) -> Self {
        let count = teachers.len();
        let device = teachers
            .first()
            .map_or(Device::Cpu, |teacher| teacher.device);
        Self {
            values: Tensor::full([count as i64], 1.0 / count as f64, (Kind::Float, device)),
            teachers,
            settings,
        }
    }

    /// Returns true if the weights change at all.
    pub fn learn(&self) -> bool {
        self.settings.step != 0.0
    }

    /// Moves the weights by one batch of images f32 `[N,C,H,W]`, normalised, with `labels` i64
    /// `[N]`, in epoch `epoch` (from 0).
    ///
    /// # Errors
    /// Fails when a teacher cannot be read, or libtorch fails.
    pub fn step(&self, images: &Tensor, labels: &Tensor, epoch: usize) -> Result<()> {
        let predict = |teacher: &&Teacher| Ok(teacher.loaded()?.predict(images));
        let logits: Vec<Tensor> = self.teachers.iter().map(predict).collect::<Result<_>>()?;
        let weights = self.values.copy().set_requires_grad(true);
        let joint = weighted_mean(&logits, &weights);
        let loss =
            joint.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)?;
        let gradient = Tensor::f_run_backward(&[&loss], &[&weights], false, false)?.remove(0);
        let rate = self.settings.step * self.settings.decay.powf(epoch as f64);
        no_grad(|| {
            let moved = (&self.values - gradient.sign() * rate).clamp(0.0, 1.0);
            self.values.shallow_clone().copy_(&moved);
        });
        Ok(())
    }
}
