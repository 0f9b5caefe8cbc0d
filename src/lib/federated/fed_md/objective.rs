//! Defines the digest's objective.

use super::settings::DigestLoss;
use crate::error::{Error, Result};
use crate::train::{Batch, Objective};
use tch::{Kind, Tensor};

/// Computes the distance of the logits to the scores of the batch.
pub struct DistanceToScores(pub DigestLoss);

impl Objective for DistanceToScores {
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        let Some(scores) = &batch.scores else {
            return Err(Error::failed("a batch to digest has no scores"));
        };
        let apart = logits.f_sub(scores)?;
        Ok(match self.0 {
            DigestLoss::Absolute => apart.abs().mean(Kind::Float),
            DigestLoss::Squared => apart.square().mean(Kind::Float),
        })
    }
}
