//! The second of four modes of course exercises: every node has as many images, drawn at random.

use super::{Iid, Partitioner, demand, draw};
use crate::error::{Error, Result};
use crate::runtime::seed::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `size` random images for every node, the rest left out; without that number it is [`Iid`]:
/// complete.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RandomEqual {
    /// Parties to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Images for each node; `None`: all there are, dealt evenly.
    #[serde(rename = "images_per_node")]
    #[schemars(range(min = 1))]
    pub size: Option<usize>,
}

impl Default for RandomEqual {
    fn default() -> Self {
        Self {
            nodes: 1,
            size: None,
        }
    }
}

impl Partitioner for RandomEqual {
    fn deal(&self, labels: &[i64], classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        match self.size {
            None => Iid { nodes: self.nodes }.deal(labels, classes, rng),
            Some(0) => {
                Err(Error::usage("`split.images_per_node` is 0").hint("`null` deals all images"))
            }
            Some(size) => {
                demand::enough(labels.len(), self.nodes, size).map_err(|error| {
                    error.hint(format!(
                        "`split.images_per_node` is at most {} for {} nodes",
                        labels.len() / self.nodes.max(1),
                        self.nodes
                    ))
                })?;
                Ok(draw::deal_sizes(labels.len(), &vec![size; self.nodes], rng))
            }
        }
    }
}
