//! The distillation objective: match the teachers' joint prediction instead of the label a batch
//! was made for.

use crate::error::Result;
use crate::inversion::{Ensemble, Teacher};
use crate::train::{Batch, Objective};
use tch::{Kind, Tensor, no_grad};

/// T² · KL(teachers ‖ student), both softened at temperature T (Hinton et al. 2015,
/// arXiv:1503.02531), averaged over the batch; images marked real keep their own labels as targets.
#[derive(Debug)]
pub struct Distillation<'a> {
    pub teachers: Vec<&'a Teacher>,
    pub ensemble: Ensemble,
    pub temperature: f64,
    /// f32 [classes]: weight of each image by its label; `None`: all one.
    pub class_weights: Option<Tensor>,
}

impl Objective for Distillation<'_> {
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        let target = no_grad(|| self.target(batch, logits.size()[1]))?;
        let student = (logits / self.temperature).f_log_softmax(1, Kind::Float)?;
        let each = (&target * (target.clamp_min(1e-12).log() - student)).sum_dim_intlist(
            1i64,
            false,
            Kind::Float,
        );
        let mean = match &self.class_weights {
            Some(weights) => {
                let weights = weights.index_select(0, &batch.labels);
                (each * &weights).sum(Kind::Float) / weights.sum(Kind::Float).clamp_min(1e-12)
            }
            None => each.mean(Kind::Float),
        };
        Ok(mean * (self.temperature * self.temperature))
    }
}

impl Distillation<'_> {
    /// Target probabilities [N, classes].
    fn target(&self, batch: &Batch, classes: i64) -> Result<Tensor> {
        let joint = self
            .ensemble
            .predict(&self.teachers, &batch.images, self.temperature)?
            .exp();
        Ok(match &batch.real {
            Some(real) => {
                let real = real.unsqueeze(1);
                batch.labels.one_hot(classes).to_kind(Kind::Float) * &real + joint * (1.0 - &real)
            }
            None => joint,
        })
    }
}
