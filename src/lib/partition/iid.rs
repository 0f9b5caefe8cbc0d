//! Makes independent and identically distributed nodes: deals the images in random order, evenly
//! (McMahan et al. 2017, arXiv:1602.05629, section 3).

use super::{Partitioner, demand, draw};
use crate::error::Result;
use crate::runtime::seed::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deals all images; sizes differ by one at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Iid {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
}

impl Default for Iid {
    fn default() -> Self {
        Self { nodes: 1 }
    }
}

impl Partitioner for Iid {
    fn deal(&self, labels: &[i64], _classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        demand::enough(labels.len(), self.nodes, 1)?;
        Ok(draw::deal_sizes(
            labels.len(),
            &draw::even(labels.len(), self.nodes),
            rng,
        ))
    }
}
