//! The second of four modes of course exercises: every node has as many images, drawn at random.

use super::{Iid, Partitioner, demand, draw};
use crate::error::{Error, Result};
use crate::runtime::seed::Rng;

/// `size` random images for every node, the rest left out; without that number it is [`Iid`]:
/// complete.
#[derive(Clone, Copy, Debug)]
pub struct RandomEqual {
    pub nodes: usize,
    pub size: Option<usize>,
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
