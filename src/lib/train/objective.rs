//! Defines the losses that a training step can minimise. Called by [`fit`](super::fit).

use super::source::Batch;
use crate::error::Result;
use tch::{Kind, Reduction, Tensor};

/// Computes a loss from logits and a batch.
pub trait Objective {
    /// Returns the scalar loss, with its graph, of logits f32 `[N,classes]` for `batch`.
    ///
    /// # Errors
    /// Fails when libtorch does.
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor>;
}

/// Computes the cross-entropy with the batch's labels, averaged as PyTorch does. A batch whose
/// classes all weigh 0 has loss 0, where PyTorch has 0/0.
#[derive(Debug, Default)]
pub struct CrossEntropy {
    /// Weight of each class, f32 `[classes]`; with `None` all are 1.
    pub class_weights: Option<Tensor>,
}

impl Objective for CrossEntropy {
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        let labels = &batch.labels;
        let weights = self.class_weights.as_ref();
        let reduced =
            |reduction| logits.f_cross_entropy_loss(labels, weights, reduction, -100, 0.0);
        let Some(weights) = weights else {
            return Ok(reduced(Reduction::Mean)?);
        };
        let sum = weights.f_index_select(0, labels)?.f_sum(Kind::Float)?;
        Ok(reduced(Reduction::Sum)? / sum.f_clamp_min(1e-12)?)
    }
}
