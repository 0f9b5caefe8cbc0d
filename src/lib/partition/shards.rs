//! Deals shards: images sorted by class, cut into equal runs, a few runs a node (McMahan et al.
//! 2017, arXiv:1602.05629, section 3: MNIST in 200 shards of 300, two for each of 100 clients).
//!
//! Deviation: where images do not divide by the shards, shards differ by one image instead of
//! leaving some out.

use super::{Partitioner, demand, draw};
use crate::error::{Error, Result, parameter};
use crate::runtime::seed::Rng;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deals all images; a node has at most `per_node` classes where no shard is longer than a class,
/// or a few more at borders.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Shards {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Number of shards that each node gets.
    #[serde(rename = "shards_per_node")]
    #[schemars(range(min = 1))]
    pub per_node: usize,
}

impl Default for Shards {
    fn default() -> Self {
        Self {
            nodes: 1,
            per_node: 2,
        }
    }
}

impl Partitioner for Shards {
    fn deal(&self, labels: &[i64], _classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        if self.per_node == 0 {
            return Err(Error::usage(parameter("shards_per_node") + " is 0")
                .hint("McMahan et al. give each node 2"));
        }
        demand::enough(labels.len(), self.nodes, self.per_node).map_err(|error| {
            error.hint(
                parameter("shards_per_node")
                    + " is the number of shards a node gets, each of one image at least",
            )
        })?;
        let mut sorted: Vec<usize> = (0..labels.len()).collect();
        sorted.shuffle(rng);
        // Stable: within a class the random order stays.
        sorted.sort_by_key(|&image| labels[image]);
        let total = self.nodes * self.per_node;
        let mut shards: Vec<usize> = (0..total).collect();
        shards.shuffle(rng);
        let part = |own: &[usize]| {
            let mut part: Vec<usize> = own
                .iter()
                .flat_map(|&shard| {
                    let (start, end) = draw::run(sorted.len(), total, shard);
                    sorted[start..end].iter().copied()
                })
                .collect();
            part.sort_unstable();
            part
        };
        Ok(shards.chunks(self.per_node).map(part).collect())
    }
}
