//! Measures how far a split is from an even one: for people who compare splits, and to state how
//! hard a federation is.
//!
//! Label skew of a node is the distance of its label distribution p from that of all nodes
//! together, q. Its total variation ½Σ|p−q| is half of the "earth mover's distance" of Zhao et al.
//! 2018 (*Federated Learning with Non-IID Data*, arXiv:1806.00582, section 3.2); the Jensen-Shannon
//! divergence is that of Lin 1991 (*Divergence Measures Based on the Shannon Entropy*), in bits.
//! The effective number of classes is the exponential of the entropy, the diversity of order 1 of
//! Hill 1973 (*Diversity and Evenness*). Sizes are compared by the coefficient of Gini 1912.

use super::owner::shares;
use serde::Serialize;

/// Holds the measures of a node's label distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct NodeSkew {
    /// Number of images.
    pub images: u64,
    /// Number of classes with at least one image.
    pub classes: usize,
    /// Effective number of classes: 1 for a single class, the number of classes where all are
    /// equally many.
    pub effective_classes: f64,
    /// Jensen-Shannon divergence from all nodes together, in bits, 0..1.
    pub jensen_shannon: f64,
    /// Total variation from all nodes together, 0..1.
    pub total_variation: f64,
}

/// Holds the measures of all nodes, and means in which all nodes count equally.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skew {
    /// Mean effective number of classes.
    pub effective_classes: f64,
    /// Mean Jensen-Shannon divergence, in bits.
    pub jensen_shannon: f64,
    /// Mean total variation.
    pub total_variation: f64,
    /// Gini coefficient of the sizes: 0 for nodes of one size, near 1 when one holds everything.
    pub size_gini: f64,
    /// Measures of each node.
    pub nodes: Vec<NodeSkew>,
}

/// Returns the measures of `counts[node][class]`; those of a node without images are 0.
pub fn skew(counts: &[Vec<u64>]) -> Skew {
    let classes = counts.iter().map(Vec::len).max().unwrap_or(0);
    let total = |class: usize| counts.iter().filter_map(|node| node.get(class)).sum();
    let all = shares(&(0..classes).map(total).collect::<Vec<u64>>());
    let nodes: Vec<NodeSkew> = counts.iter().map(|node| of_node(node, &all)).collect();
    let mean =
        |of: fn(&NodeSkew) -> f64| nodes.iter().map(of).sum::<f64>() / nodes.len().max(1) as f64;
    Skew {
        effective_classes: mean(|node| node.effective_classes),
        jensen_shannon: mean(|node| node.jensen_shannon),
        total_variation: mean(|node| node.total_variation),
        size_gini: gini(nodes.iter().map(|node| node.images as f64).collect()),
        nodes,
    }
}

fn of_node(counts: &[u64], all: &[f64]) -> NodeSkew {
    let own = shares(counts);
    let images = counts.iter().sum();
    if images == 0 {
        return NodeSkew::default();
    }
    let middle: Vec<f64> = own.iter().zip(all).map(|(p, q)| (p + q) / 2.0).collect();
    let divergence = entropy(&middle) - (entropy(&own) + entropy(all)) / 2.0;
    let variation = own.iter().zip(all).map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0;
    NodeSkew {
        images,
        classes: counts.iter().filter(|&&count| count > 0).count(),
        effective_classes: entropy(&own).exp(),
        // Rounding may leave less than nothing.
        jensen_shannon: (divergence / std::f64::consts::LN_2).max(0.0),
        total_variation: variation,
    }
}

/// Returns the entropy in nats.
fn entropy(shares: &[f64]) -> f64 {
    -shares
        .iter()
        .filter(|&&share| share > 0.0)
        .map(|share| share * share.ln())
        .sum::<f64>()
}

/// Returns the mean absolute difference of all pairs over twice the mean.
fn gini(mut sizes: Vec<f64>) -> f64 {
    sizes.sort_by(f64::total_cmp);
    let (count, sum) = (sizes.len() as f64, sizes.iter().sum::<f64>());
    if sum == 0.0 {
        return 0.0;
    }
    let ranked: f64 = sizes
        .iter()
        .enumerate()
        .map(|(i, size)| (2.0 * (i as f64 + 1.0) - count - 1.0) * size)
        .sum();
    ranked / (count * sum)
}
