//! Deals a dataset to nodes. One partitioner a file; called by the `split_data` stage; knows labels
//! only, never pixels or files.
//!
//! A partitioner deals the *training* images. The test images follow by one rule for all of them
//! ([`Split::new`]): each class of the test set is dealt in the proportions in which the nodes hold
//! that class for training, so a node is tested on what it has learned. A class that no node holds
//! is dealt evenly.
//!
//! `examples/partitioner.rs` is a program with a partitioner of its own.

mod demand;
mod dirichlet;
mod dirichlet_equal;
mod draw;
mod iid;
mod owner;
mod pathological;
mod quantity_skew;
mod random_equal;
mod random_unequal;
mod settings;
mod shards;
mod skew;
mod skewed;
mod split;
mod uniform_per_class;
mod uniform_share;

pub use dirichlet::Dirichlet;
pub use dirichlet_equal::DirichletEqual;
pub use iid::Iid;
pub use owner::owners;
pub use pathological::Pathological;
pub use quantity_skew::{QuantitySkew, QuantitySkewSettings, SizeLaw, Sizes};
pub use random_equal::RandomEqual;
pub use random_unequal::RandomUnequal;
pub use settings::PartitionSettings;
pub use shards::Shards;
pub use skew::{NodeSkew, Skew, skew};
pub use skewed::Skewed;
pub use split::{Part, Split, label_counts};
pub use uniform_per_class::UniformPerClass;
pub use uniform_share::UniformShare;

use crate::error::Result;
use crate::runtime::seed::Rng;
use std::fmt::Debug;

/// Deals images to nodes.
pub trait Partitioner: Debug {
    /// Deals the images with these labels (`labels[i]` in 0..`classes`) to the nodes: disjoint,
    /// ascending lists of indices, one per node, none empty. All images are dealt, unless the
    /// documentation of the partitioner states which it leaves out. An `rng` in the same state
    /// gives the same lists. Ends in bounded time.
    ///
    /// # Errors
    /// Fails, with a usage error, at impossible requests such as more nodes than images, and when
    /// the draw gives a node too few images: the error names the nodes.
    fn deal(&self, labels: &[i64], classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>>;
}
