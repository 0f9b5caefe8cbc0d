//! Quantity skew: every node has the same mix of classes, but not as many images (Li et al. 2022,
//! *Federated Learning on Non-IID Data Silos* (NIID-Bench), arXiv:2102.02079: q ~ Dir(β)); or
//! log-normal sizes, as in FedDyn (Acar et al. 2021, arXiv:2111.04263).
//!
//! Deviations: drawing again for `min_size` ends after a fixed number of draws; all images are
//! dealt in the log-normal form too (sizes are scaled to their sum).

use super::{Partitioner, demand, draw};
use crate::error::{Error, Result};
use crate::runtime::seed::Rng;
use rand::distr::Distribution;
use rand_distr::StandardNormal;

/// The law of sizes.
#[derive(Clone, Copy, Debug)]
pub enum Sizes {
    /// Concentration, greater than 0: 0.1 gives few nodes nearly everything, 100 nearly equal
    /// sizes.
    Dirichlet(f64),
    /// Standard deviation of the sizes' logarithms, 0 or more: 0 gives equal sizes.
    LogNormal(f64),
}

/// Complete; each node has `min_size` images or more.
#[derive(Clone, Copy, Debug)]
pub struct QuantitySkew {
    pub nodes: usize,
    pub sizes: Sizes,
    pub min_size: usize,
}

impl Partitioner for QuantitySkew {
    fn deal(&self, labels: &[i64], _classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        demand::at_least(labels.len(), self.nodes, self.min_size)?;
        let (what, instead) = match self.sizes {
            Sizes::Dirichlet(alpha) => (
                format!("sizes from Dirichlet({alpha:?})"),
                "larger `split.alpha`",
            ),
            Sizes::LogNormal(sigma) => (
                format!("log-normal sizes of sigma {sigma:?}"),
                "smaller `split.sigma`",
            ),
        };
        let what = format!("{what} over {} nodes", self.nodes);
        let open = vec![true; self.nodes];
        let draw = |rng: &mut Rng| {
            let sizes = draw::cut(labels.len(), &draw::weights(&self.logs(rng)?, &open));
            Ok((sizes.clone(), sizes))
        };
        let sizes = draw::again(&what, self.min_size.max(1), rng, draw).map_err(|error| {
            error.hint(format!(
                "try a {instead}, fewer nodes (`split.num_nodes`), a smaller `split.min_size`, or another `seed`"
            ))
        })?;
        Ok(draw::deal_sizes(labels.len(), &sizes, rng))
    }
}

impl QuantitySkew {
    /// Logarithms of the nodes' weights.
    fn logs(&self, rng: &mut Rng) -> Result<Vec<f64>> {
        match self.sizes {
            Sizes::Dirichlet(alpha) => draw::log_gammas(alpha, self.nodes, rng),
            Sizes::LogNormal(sigma) if sigma.is_finite() && sigma >= 0.0 => {
                let log =
                    |_| sigma * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, rng);
                Ok((0..self.nodes).map(log).collect())
            }
            Sizes::LogNormal(sigma) => Err(Error::usage(format!(
                "`split.sigma` is {sigma}, not a finite number of 0 or more"
            ))
            .hint("0 gives equal sizes, 1 sizes that differ tenfold and more")),
        }
    }
}
