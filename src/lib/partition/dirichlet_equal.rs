//! Label skew at equal sizes: each node draws its own mix of classes from Dirichlet(α). The split
//! of Co-Boosting (Dai et al. 2024, *Enhancing One-Shot Federated Learning Through Data and
//! Ensemble Co-Boosting*, arXiv:2402.15070), as in FedDyn (Acar et al. 2021, arXiv:2111.04263) and,
//! before, Hsu et al. 2019 (arXiv:1909.06335), whose α is the sum over the classes: K times this
//! one for K classes.
//!
//! Nodes take images in turns, each from a class drawn from its mix. Published code draws again
//! while the class is used up, which need not end; here the mix is restricted to classes that are
//! left and renormalised, the same distribution. Deviation: turns are a random order of all nodes'
//! turns, not a fresh choice among unfinished nodes. The last nodes get what the others left.

use super::{Partitioner, demand, draw};
use crate::error::{Error, Result};
use crate::runtime::seed::Rng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deals all images; sizes differ by one at most, at any `alpha`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DirichletEqual {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Concentration, greater than 0: 0.1 gives each node few classes, 100 nearly the same mix.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
}

impl Default for DirichletEqual {
    fn default() -> Self {
        Self {
            nodes: 1,
            alpha: 0.5,
        }
    }
}

impl Partitioner for DirichletEqual {
    fn deal(&self, labels: &[i64], classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        demand::enough(labels.len(), self.nodes, 1)?;
        let mixes = (0..self.nodes)
            .map(|_| draw::log_gammas(self.alpha, classes, rng))
            .collect::<Result<Vec<_>>>()?;
        let mut left: Vec<usize> = draw::by_class(labels, classes)
            .iter()
            .map(Vec::len)
            .collect();
        let mut choices = choices(&mixes, &left)?;
        let mut turns: Vec<usize> = draw::even(labels.len(), self.nodes)
            .into_iter()
            .enumerate()
            .flat_map(|(node, size)| std::iter::repeat_n(node, size))
            .collect();
        turns.shuffle(rng);
        let mut counts = vec![vec![0; classes]; self.nodes];
        for node in turns {
            let class = choices[node].sample(rng);
            counts[node][class] += 1;
            left[class] -= 1;
            if left[class] == 0 && left.iter().any(|left| *left > 0) {
                choices = self::choices(&mixes, &left)?;
            }
        }
        Ok(draw::deal_counts(labels, &counts, classes, rng))
    }
}

/// Returns each node's mix of the classes of which images are left.
fn choices(mixes: &[Vec<f64>], left: &[usize]) -> Result<Vec<WeightedIndex<f64>>> {
    let open: Vec<bool> = left.iter().map(|left| *left > 0).collect();
    let choice = |mix: &Vec<f64>| {
        WeightedIndex::new(draw::weights(mix, &open)).map_err(|error| {
            Error::failed(format!("cannot draw from a node's mix of classes: {error}"))
        })
    };
    mixes.iter().map(choice).collect()
}
