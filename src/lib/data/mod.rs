//! Images: reading whole datasets into u8 tensors, batches, augmentation, the growing synthetic
//! set.

mod augment;
mod dataset;
pub mod download;
mod fingerprint;
mod limit;
mod load;
mod normalise;
mod official;
mod parallel;
mod raw;
mod readers;
mod resize;
mod settings;
mod upload;

pub use augment::augment;
pub use dataset::{Dataset, ImageSet, Normalisation};
pub use load::load;
pub use settings::{DatasetKind, DatasetSettings};
pub(crate) use upload::upload;
