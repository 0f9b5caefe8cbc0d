//! Gives all nodes the same number of images, drawn at random: the second of four modes of course
//! exercises.

use super::{Iid, Partitioner, demand, draw};
use crate::error::{Error, Result, parameter};
use crate::runtime::seed::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deals `size` random images to every node and leaves the rest out; without that number it deals
/// all images as [`Iid`] does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RandomEqual {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Number of images for each node; `None`: all there are, dealt evenly.
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
            Some(0) => Err(Error::usage(parameter("images_per_node") + " is 0")
                .hint("`null` deals all images")),
            Some(size) => {
                demand::enough(labels.len(), self.nodes, size).map_err(|error| {
                    let most = labels.len() / self.nodes.max(1);
                    let most = format!(" is at most {most} for {} nodes", self.nodes);
                    error.hint(parameter("images_per_node") + most)
                })?;
                Ok(draw::deal_sizes(labels.len(), &vec![size; self.nodes], rng))
            }
        }
    }
}
