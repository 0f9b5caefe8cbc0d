//! Deals a share evenly and the rest by class: the split of the EPFL report (Jellouli, "Dataset
//! Distillation for One-Shot Federated Learning").

use super::{Partitioner, demand, draw};
use crate::error::{Error, Result, parameter};
use crate::runtime::seed::Rng;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deals a random share `share` (0..1) of the images evenly; the rest is sorted by class and cut
/// into one run a node.
///
/// `share` 1 is IID, 0 gives each node few classes (disjoint ones when the classes divide evenly).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UniformShare {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Share of the images (0..1) dealt evenly at random; the rest is sorted by class and cut into
    /// runs.
    #[serde(rename = "unif_percentage")]
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
}

impl Default for UniformShare {
    fn default() -> Self {
        Self {
            nodes: 1,
            share: 1.0,
        }
    }
}

impl Partitioner for UniformShare {
    fn deal(&self, labels: &[i64], _classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        self.check(labels.len())?;
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.shuffle(rng);
        let even = (self.share * labels.len() as f64).round() as usize;
        let mut sorted = order.split_off(even);
        // Stable: within a class the random order stays.
        sorted.sort_by_key(|&image| labels[image]);
        let mut nodes: Vec<Vec<usize>> = (0..self.nodes)
            .map(|node| {
                let (start, end) = draw::run(sorted.len(), self.nodes, node);
                sorted[start..end].to_vec()
            })
            .collect();
        // The even part is dealt in turns that begin with the shortest runs, so that sizes differ
        // by one at most.
        let mut turns: Vec<usize> = (0..self.nodes).collect();
        turns.sort_by_key(|&node| nodes[node].len());
        for (&image, &node) in order.iter().zip(turns.iter().cycle()) {
            nodes[node].push(image);
        }
        for part in &mut nodes {
            part.sort_unstable();
        }
        Ok(nodes)
    }
}

impl UniformShare {
    fn check(&self, images: usize) -> Result<()> {
        if !(0.0..=1.0).contains(&self.share) {
            let found = format!(" is {}, outside 0..1", self.share);
            return Err(Error::usage(parameter("unif_percentage") + found)
                .hint("1 deals everything evenly (IID), 0 sorts everything by class"));
        }
        demand::enough(images, self.nodes, 1)
    }
}
