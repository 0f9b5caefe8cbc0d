//! Dealing a dataset to nodes. One partitioner a file; called by the `split_data` stage; knows labels only, never pixels or files.
//!
//! A partitioner deals the *training* images. The test images follow by one rule for all of them ([`Split::new`]): each class of the
//! test set is dealt in the proportions in which the nodes hold that class for training, so a node is tested on what it has learned.

mod owner;
mod skew;
mod split;
mod uniform_share;

pub use owner::owners;
pub use skew::{NodeSkew, Skew, skew};
pub use split::{Part, Split, label_counts};
pub use uniform_share::UniformShare;

use crate::error::Result;
use crate::runtime::seed::Rng;

/// A way to deal images to nodes.
pub trait Partitioner {
    /// Deals the images with these labels (`labels[i]` in 0..`classes`) to the nodes: disjoint, complete lists of indices, one a node.
    ///
    /// # Errors
    /// Impossible requests, such as more nodes than images.
    fn deal(&self, labels: &[i64], classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>>;
}
