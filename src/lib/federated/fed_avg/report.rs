//! Defines what a client tells of its part in a round.

use super::RoundReport;
use crate::federated::report::Report;
use serde::{Deserialize, Serialize};

/// Reports a client's part in a round. Loss and accuracy are those of its last epoch's training
/// passes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Number of the client.
    pub node: usize,
    /// Number of its training images.
    pub images: usize,
    /// Mean loss over images.
    pub train_loss: f64,
    /// Share of images whose label was predicted, 0..1.
    pub train_accuracy: f64,
    /// Of the model it uploads, on its own test images; `None` without any.
    pub own_test_accuracy: Option<f64>,
}

impl RoundReport {
    /// Returns the mean of a number over the clients, weighted by their images.
    pub fn mean(&self, of: fn(&NodeReport) -> f64) -> f64 {
        let images: usize = self.nodes.iter().map(|node| node.images).sum();
        let weighted = |node: &NodeReport| of(node) * node.images as f64;
        self.nodes.iter().map(weighted).sum::<f64>() / images as f64
    }
}

impl Report for NodeReport {
    const NUMBERS: &'static [&'static str] = &[
        "images",
        "train_loss",
        "train_accuracy",
        "own_test_accuracy",
    ];
}
