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
        weighted_mean(self.nodes.iter().map(|node| (of(node), node.images)))
    }

    /// Returns the same over the clients that have the number; `None` if no client has.
    pub fn mean_of_some(&self, of: fn(&NodeReport) -> Option<f64>) -> Option<f64> {
        let values = self.nodes.iter();
        let values: Vec<_> = values
            .filter_map(|node| Some((of(node)?, node.images)))
            .collect();
        (!values.is_empty()).then(|| weighted_mean(values.into_iter()))
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

/// Returns the mean of values that have numbers of images.
fn weighted_mean(values: impl Iterator<Item = (f64, usize)>) -> f64 {
    let (mut sum, mut all) = (0.0, 0);
    for (value, images) in values {
        sum += value * images as f64;
        all += images;
    }
    sum / all as f64
}
