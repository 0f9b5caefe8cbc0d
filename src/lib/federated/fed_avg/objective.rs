//! Defines FedProx's objective (Li et al. 2020, "Federated Optimization in Heterogeneous Networks",
//! arXiv:1812.06127, equation 2).

use crate::error::Result;
use crate::model::Model;
use crate::train::{Batch, CrossEntropy, Objective};
use tch::Tensor;

/// Computes cross-entropy + μ/2 · ‖w − w₀‖², where w₀ are the weights that the round began with.
pub struct Proximal {
    mu: f64,
    /// Each parameter and its w₀; none for μ = 0, so that the loss is cross-entropy to the bit.
    pairs: Vec<(Tensor, Tensor)>,
}

impl Proximal {
    /// Returns the objective whose w₀ are the weights of `model` now.
    pub fn new(mu: f64, model: &Model) -> Self {
        let pair = |parameter: Tensor| {
            let start = parameter.detach().copy();
            (parameter, start)
        };
        Self {
            mu,
            pairs: match mu {
                0.0 => Vec::new(),
                _ => model.parameters().into_iter().map(pair).collect(),
            },
        }
    }
}

impl Objective for Proximal {
    fn loss(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        let loss = CrossEntropy::default().loss(logits, batch)?;
        let add = |loss: Tensor, (parameter, start): &(Tensor, Tensor)| {
            loss + (parameter - start).square().sum(tch::Kind::Float) * (self.mu / 2.0)
        };
        Ok(self.pairs.iter().fold(loss, add))
    }
}
