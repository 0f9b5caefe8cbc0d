//! Defines the losses that a training step can minimise. Called by [`fit`](super::fit).

use super::source::Batch;
use crate::error::Result;
use tch::{Reduction, Tensor};

/// Computes a loss from logits and a batch.
pub trait Objective {
    /// Returns the scalar loss, with its graph, of logits f32 `[N,classes]` for `batch`.
    ///
    /// # Errors
    /// Fails when libtorch does.
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor>;
}

/// Computes the cross-entropy with the batch's labels, averaged as PyTorch does.
#[derive(Debug, Default)]
pub struct CrossEntropy {
    /// Weight of each class, f32 `[classes]`; with `None` all are 1.
    pub class_weights: Option<Tensor>,
}

impl Objective for CrossEntropy {
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        Ok(logits.f_cross_entropy_loss(
            &batch.labels,
            self.class_weights.as_ref(),
            Reduction::Mean,
            -100,
            0.0,
        )?)
    }
}
