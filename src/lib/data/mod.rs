//! Images: reading whole datasets into u8 tensors, batches, augmentation, the growing synthetic set.

mod dataset;
mod settings;

pub use dataset::{Dataset, ImageSet, Normalisation};
pub use settings::{DatasetKind, DatasetSettings};
