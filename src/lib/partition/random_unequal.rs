//! Gives each node random images, a random number of them: the third of four modes of course
//! exercises.

use super::{Partitioner, demand, draw};
use crate::error::Result;
use crate::runtime::seed::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deals all images: `min_size` to every node, and the others cut at uniformly random points. It
/// never draws again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RandomUnequal {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Number of training images that each node must have.
    #[schemars(range(min = 1))]
    pub min_size: usize,
}

impl Default for RandomUnequal {
    fn default() -> Self {
        Self {
            nodes: 1,
            min_size: 10,
        }
    }
}

impl Partitioner for RandomUnequal {
    fn deal(&self, labels: &[i64], _classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        let least = self.min_size.max(1);
        demand::at_least(labels.len(), self.nodes, least)?;
        let mut sizes = draw::random_cuts(labels.len() - self.nodes * least, self.nodes, rng);
        sizes.iter_mut().for_each(|size| *size += least);
        Ok(draw::deal_sizes(labels.len(), &sizes, rng))
    }
}
