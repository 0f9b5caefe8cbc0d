//! Label skew: each class is dealt in Dirichlet proportions. The split of DENSE (Zhang et al. 2022,
//! *DENSE: Data-Free One-Shot Federated Learning*, arXiv:2112.12371: p_k ~ Dir(α)), in the form
//! common since Yurochkin et al. 2019 (arXiv:1905.12022), Lin et al. 2020 (*Ensemble Distillation
//! for Robust Model Fusion*, arXiv:2006.07242) and Li et al. 2022 (NIID-Bench, arXiv:2102.02079): a
//! node that has its even share already takes no further class, and a draw that leaves a node with
//! fewer than 10 images is drawn again.
//!
//! Deviations: drawing again ends after a fixed number of draws; Dirichlet weights are drawn as
//! logarithms, so that no `alpha` underflows; where a class is cut is rounded, not rounded down.

use super::{Partitioner, demand, draw};
use crate::error::{Result, assignment};
use crate::runtime::seed::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deals all images; each node has `min_size` of them or more. At a size of `images / nodes` or
/// more a node takes no further class, so sizes exceed that by less than the largest class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Dirichlet {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Concentration, greater than 0: 0.1 gives each node few classes, 100 nearly the same mix.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Number of training images that each node must have.
    #[schemars(range(min = 1))]
    pub min_size: usize,
}

impl Default for Dirichlet {
    fn default() -> Self {
        Self {
            nodes: 1,
            alpha: 0.5,
            min_size: 10,
        }
    }
}

impl Partitioner for Dirichlet {
    fn deal(&self, labels: &[i64], classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        demand::at_least(labels.len(), self.nodes, self.min_size)?;
        let totals: Vec<usize> = draw::by_class(labels, classes)
            .iter()
            .map(Vec::len)
            .collect();
        let what = format!("Dirichlet({:?}) over {} nodes", self.alpha, self.nodes);
        let counts = draw::again(&what, self.min_size.max(1), rng, |rng| {
            self.draw(&totals, rng)
        })
        .map_err(|error| {
            error.hint(demand::easier("larger", "alpha")).hint(
                assignment("kind", "dirichlet_equal") + " gives nodes of one size at any alpha",
            )
        })?;
        Ok(draw::deal_counts(labels, &counts, classes, rng))
    }
}

impl Dirichlet {
    /// Draws `counts[node][class]` and the nodes' sizes.
    fn draw(&self, totals: &[usize], rng: &mut Rng) -> Result<(Vec<Vec<usize>>, Vec<usize>)> {
        let images: usize = totals.iter().sum();
        let mut counts = vec![vec![0; totals.len()]; self.nodes];
        let mut sizes = vec![0; self.nodes];
        for (class, &total) in totals.iter().enumerate() {
            let logs = draw::log_gammas(self.alpha, self.nodes, rng)?;
            // Never all closed while images are left: their sizes would add up to all images.
            let open: Vec<bool> = sizes
                .iter()
                .map(|size| size * self.nodes < images)
                .collect();
            if total == 0 {
                continue;
            }
            let cuts = draw::cut(total, &draw::weights(&logs, &open));
            for (node, count) in cuts.into_iter().enumerate() {
                counts[node][class] = count;
                sizes[node] += count;
            }
        }
        Ok((counts, sizes))
    }
}
