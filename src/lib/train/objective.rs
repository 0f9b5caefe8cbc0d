//! What a training step minimises.

use super::source::Batch;
use crate::error::Result;
use tch::{Reduction, Tensor};

/// A loss of logits [N, classes] against a batch.
pub trait Objective {
    /// The scalar loss, with its graph.
    ///
    /// # Errors
    /// What libtorch reports.
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor>;
}

/// Cross-entropy with the batch's labels, optionally weighted by class (f32 [classes]), averaged as
/// PyTorch does.
#[derive(Debug, Default)]
pub struct CrossEntropy {
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
