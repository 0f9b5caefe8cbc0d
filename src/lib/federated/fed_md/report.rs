//! Defines what a client tells of its part in a round.

use crate::federated::report::Report;
use serde::{Deserialize, Serialize};

/// Reports a client's part in a round. Losses and training accuracy are those of the phase's last
/// epoch of training passes, `None` for a phase that was left out; the other accuracies are of its
/// model after the round, `None` in rounds without evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Number of the client.
    pub node: usize,
    /// Number of its training images.
    pub images: usize,
    /// Of the digest; none in transfer learning.
    pub digest_loss: Option<f64>,
    /// On private images, with their labels.
    pub train_loss: Option<f64>,
    /// Share of private images whose label was predicted, 0..1.
    pub train_accuracy: Option<f64>,
    /// On all private training images.
    pub local_accuracy: Option<f64>,
    /// On the whole public set.
    pub public_accuracy: Option<f64>,
    /// On its own test images; `None` without any.
    pub own_test_accuracy: Option<f64>,
    /// On the whole test set.
    pub test_accuracy: Option<f64>,
}

impl Report for NodeReport {
    const NUMBERS: &'static [&'static str] = &[
        "images",
        "digest_loss",
        "train_loss",
        "train_accuracy",
        "local_accuracy",
        "public_accuracy",
        "own_test_accuracy",
        "test_accuracy",
    ];
}
