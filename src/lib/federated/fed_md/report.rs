//! What a client tells about a round.

use crate::error::Result;
use crate::federated::node::{decode_report, encode_report};
use crate::model::StateDict;
use serde::{Deserialize, Serialize};

/// What a client tells about a round. Losses and training accuracy are those of the phase's last
/// epoch of training passes, `None` for a phase that was left out; the other accuracies are of its
/// model after the round, `None` in rounds without evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    pub node: usize,
    pub images: usize,
    /// Of the digest; none in transfer learning.
    pub digest_loss: Option<f64>,
    /// On private images, with their labels.
    pub train_loss: Option<f64>,
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

impl NodeReport {
    /// Returns the report as a message.
    pub fn encode(&self) -> StateDict {
        encode_report([
            Some(self.images as f64),
            self.digest_loss,
            self.train_loss,
            self.train_accuracy,
            self.local_accuracy,
            self.public_accuracy,
            self.own_test_accuracy,
            self.test_accuracy,
        ])
    }

    /// Returns the report that [`encode`](Self::encode) made a message of.
    ///
    /// # Errors
    /// A message that is none.
    pub fn decode(node: usize, message: &StateDict) -> Result<Self> {
        let [
            images,
            digest_loss,
            train_loss,
            train_accuracy,
            accuracies @ ..,
        ] = decode_report::<8>(node, message)?;
        let [
            local_accuracy,
            public_accuracy,
            own_test_accuracy,
            test_accuracy,
        ] = accuracies;
        Ok(Self {
            node,
            images: images.unwrap_or(0.0) as usize,
            digest_loss,
            train_loss,
            train_accuracy,
            local_accuracy,
            public_accuracy,
            own_test_accuracy,
            test_accuracy,
        })
    }
}
