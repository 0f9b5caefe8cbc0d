//! What a client tells of its part, and how it travels.

use crate::error::{Error, Result};
use crate::model::StateDict;
use serde::{Deserialize, Serialize};
use tch::Tensor;

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
    /// As it travels; what is missing is negative.
    pub(super) fn to_state(&self) -> StateDict {
        StateDict::new(vec![("report".into(), self.numbers())])
    }

    pub(super) fn from_state(node: usize, state: &StateDict) -> Result<Self> {
        Self::read(node, state.get("report"))
    }

    /// f64 [8].
    pub(super) fn numbers(&self) -> Tensor {
        let optional = [
            self.digest_loss,
            self.train_loss,
            self.train_accuracy,
            self.local_accuracy,
            self.public_accuracy,
            self.own_test_accuracy,
            self.test_accuracy,
        ];
        let mut numbers = vec![self.images as f64];
        numbers.extend(optional.map(|number| number.unwrap_or(-1.0)));
        Tensor::from_slice(&numbers)
    }

    pub(super) fn read(node: usize, numbers: Option<&Tensor>) -> Result<Self> {
        let numbers = numbers
            .map(Vec::<f64>::try_from)
            .transpose()?
            .unwrap_or_default();
        let &[
            images,
            digest_loss,
            train_loss,
            train_accuracy,
            local,
            public,
            own_test,
            test,
        ] = numbers.as_slice()
        else {
            return Err(Error::failed(format!(
                "node {node} sent a report that cannot be read"
            )));
        };
        let given = |number: f64| (number >= 0.0).then_some(number);
        Ok(Self {
            node,
            images: images as usize,
            digest_loss: given(digest_loss),
            train_loss: given(train_loss),
            train_accuracy: given(train_accuracy),
            local_accuracy: given(local),
            public_accuracy: given(public),
            own_test_accuracy: given(own_test),
            test_accuracy: given(test),
        })
    }
}
