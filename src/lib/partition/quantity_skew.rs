//! Quantity skew: every node has the same mix of classes, but not as many images (Li et al. 2022,
//! *Federated Learning on Non-IID Data Silos* (NIID-Bench), arXiv:2102.02079: q ~ Dir(β)); or
//! log-normal sizes, as in FedDyn (Acar et al. 2021, arXiv:2111.04263).
//!
//! Deviations: drawing again for `min_size` ends after a fixed number of draws; all images are
//! dealt in the log-normal form too (sizes are scaled to their sum).

use super::{Partitioner, demand, draw};
use crate::error::{Error, Result, parameter};
use crate::runtime::seed::Rng;
use rand::distr::Distribution;
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Is the distribution of the nodes' sizes.
#[derive(Clone, Copy, Debug)]
pub enum Sizes {
    /// Draws shares from a Dirichlet distribution of this concentration, greater than 0: 0.1 gives
    /// few nodes nearly everything, 100 nearly equal sizes.
    Dirichlet(f64),
    /// Draws log-normal sizes; this is the standard deviation of their logarithms, 0 or more: 0
    /// gives equal sizes.
    LogNormal(f64),
}

/// Deals all images; each node has `min_size` of them or more.
#[derive(Clone, Copy, Debug)]
pub struct QuantitySkew {
    /// Number of nodes to deal the images to.
    pub nodes: usize,
    /// Distribution of the nodes' sizes.
    pub sizes: Sizes,
    /// Number of training images that each node must have.
    pub min_size: usize,
}

/// Names a distribution of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SizeLaw {
    /// Draws shares from Dirichlet(`alpha`).
    Dirichlet,
    /// Draws sizes in proportion to exp(`sigma`·z), z standard normal.
    LogNormal,
}

/// Holds the settings of [`QuantitySkew`]; each distribution of sizes has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QuantitySkewSettings {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Distribution of sizes. `None`: [`SizeLaw::Dirichlet`].
    pub sizes: Option<SizeLaw>,
    /// Concentration of Dirichlet sizes. `None`: 0.5.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: Option<f64>,
    /// Standard deviation of the logarithms of log-normal sizes. `None`: 0.5.
    #[schemars(range(min = 0))]
    pub sigma: Option<f64>,
    /// Number of training images that each node must have.
    #[schemars(range(min = 1))]
    pub min_size: usize,
}

impl Default for QuantitySkewSettings {
    fn default() -> Self {
        Self {
            nodes: 1,
            sizes: None,
            alpha: None,
            sigma: None,
            min_size: 10,
        }
    }
}

impl From<QuantitySkewSettings> for QuantitySkew {
    fn from(settings: QuantitySkewSettings) -> Self {
        Self {
            nodes: settings.nodes,
            sizes: match settings.sizes {
                Some(SizeLaw::LogNormal) => Sizes::LogNormal(settings.sigma.unwrap_or(0.5)),
                Some(SizeLaw::Dirichlet) | None => Sizes::Dirichlet(settings.alpha.unwrap_or(0.5)),
            },
            min_size: settings.min_size,
        }
    }
}

impl Partitioner for QuantitySkew {
    fn deal(&self, labels: &[i64], _classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        demand::at_least(labels.len(), self.nodes, self.min_size)?;
        let (what, easier) = match self.sizes {
            Sizes::Dirichlet(alpha) => (
                format!("sizes from Dirichlet({alpha:?})"),
                demand::easier("larger", "alpha"),
            ),
            Sizes::LogNormal(sigma) => (
                format!("log-normal sizes of sigma {sigma:?}"),
                demand::easier("smaller", "sigma"),
            ),
        };
        let what = format!("{what} over {} nodes", self.nodes);
        let open = vec![true; self.nodes];
        let draw = |rng: &mut Rng| {
            let sizes = draw::cut(labels.len(), &draw::weights(&self.logs(rng)?, &open));
            Ok((sizes.clone(), sizes))
        };
        let sizes = draw::again(&what, self.min_size.max(1), rng, draw)
            .map_err(|error| error.hint(easier))?;
        Ok(draw::deal_sizes(labels.len(), &sizes, rng))
    }
}

impl QuantitySkew {
    /// Draws the logarithms of the nodes' weights.
    fn logs(&self, rng: &mut Rng) -> Result<Vec<f64>> {
        match self.sizes {
            Sizes::Dirichlet(alpha) => draw::log_gammas(alpha, self.nodes, rng),
            Sizes::LogNormal(sigma) if sigma.is_finite() && sigma >= 0.0 => {
                let log =
                    |_| sigma * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, rng);
                Ok((0..self.nodes).map(log).collect())
            }
            Sizes::LogNormal(sigma) => Err(Error::usage(
                parameter("sigma") + format!(" is {sigma}, not a finite number of 0 or more"),
            )
            .hint("0 gives equal sizes, 1 sizes that differ tenfold and more")),
        }
    }
}
