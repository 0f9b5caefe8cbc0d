//! Reads image datasets: [`load`] reads a whole set into u8 tensors, [`Normalisation`] and
//! [`augment`] turn batches of them into a model's input.
//!
//! The stages call it, and so does a program that uses the library. Errors name the fields of
//! [`DatasetSettings`].
//!
//! ```
//! use fed_distill::data::{DatasetKind, DatasetSettings, load};
//! use tch::Device;
//!
//! # fn main() -> fed_distill::Result<()> {
//! let settings = DatasetSettings {
//!     kind: DatasetKind::Digits,
//!     size: Some(8),
//!     ..DatasetSettings::default()
//! };
//! let digits = load(&settings, Device::Cpu)?;
//! assert_eq!(digits.train.images.size(), [1442, 1, 8, 8]);
//! assert_eq!(digits.classes[3], "3");
//!
//! let batch = digits.train.select(&[0, 1, 2])?;
//! let input = digits.normalisation.apply(&batch.images);
//! assert_eq!(input.kind(), tch::Kind::Float);
//! # Ok(())
//! # }
//! ```

mod augment;
mod classes;
mod dataset;
mod divide;
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

pub use augment::{Augmentation, augment, unchanged_view, view_count};
pub use classes::check_class_names;
pub use dataset::{Dataset, ImageSet, Normalisation, Normaliser};
pub use load::load;
pub use settings::{DatasetKind, DatasetSettings};
pub(crate) use upload::upload;
