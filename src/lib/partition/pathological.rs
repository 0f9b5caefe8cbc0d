//! Pathological label skew: k classes a node, the images of a class dealt evenly to its nodes (Li
//! et al. 2022, *Federated Learning on Non-IID Data Silos* (NIID-Bench), arXiv:2102.02079: "#C =
//! k", after the pathological split of McMahan et al. 2017).
//!
//! Deviation: classes are spread evenly over nodes (each class has one node more or fewer than
//! another at most) instead of node i taking class i and others at random, so that no class is left
//! out and none falls to one node by chance.

use super::{Partitioner, demand, draw};
use crate::error::{Error, Result, unquoted};
use crate::runtime::seed::Rng;
use crate::words::counted;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deals all images; every node has exactly `classes_per_node` classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Pathological {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Number of classes that a node holds.
    #[schemars(range(min = 1))]
    pub classes_per_node: usize,
}

impl Default for Pathological {
    fn default() -> Self {
        Self {
            nodes: 1,
            classes_per_node: 2,
        }
    }
}

impl Partitioner for Pathological {
    fn deal(&self, labels: &[i64], classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        demand::enough(labels.len(), self.nodes, 1)?;
        let totals: Vec<usize> = draw::by_class(labels, classes)
            .iter()
            .map(Vec::len)
            .collect();
        let present: Vec<usize> = (0..classes).filter(|&class| totals[class] > 0).collect();
        demand::classes(self.classes_per_node, present.len())?;
        self.check_all_held(present.len())?;
        let held = draw::spread(self.nodes, self.classes_per_node, &present, rng);
        let mut counts = vec![vec![0; classes]; self.nodes];
        for &class in &present {
            let mut holders: Vec<usize> = (0..self.nodes)
                .filter(|&node| held[node].contains(&class))
                .collect();
            check_enough(class, totals[class], &holders)?;
            // Otherwise the same nodes would have the longer runs of every class.
            holders.shuffle(rng);
            for (&node, count) in holders.iter().zip(draw::even(totals[class], holders.len())) {
                counts[node][class] = count;
            }
        }
        Ok(draw::deal_counts(labels, &counts, classes, rng))
    }
}

impl Pathological {
    fn check_all_held(&self, present: usize) -> Result<()> {
        if self.nodes.saturating_mul(self.classes_per_node) >= present {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{} nodes of {} classes cannot hold all {present} classes: some would be in no node",
            self.nodes, self.classes_per_node
        ))
        .hint(
            unquoted("classes_per_node")
                + format!("={} or ", present.div_ceil(self.nodes))
                + unquoted("num_nodes")
                + format!("={}", present.div_ceil(self.classes_per_node)),
        ))
    }
}

fn check_enough(class: usize, images: usize, holders: &[usize]) -> Result<()> {
    if images >= holders.len() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "class {class} has {} for {} that are to hold it",
        counted(images, "training image"),
        counted(holders.len(), "node")
    ))
    .hint(demand::fewer()))
}
