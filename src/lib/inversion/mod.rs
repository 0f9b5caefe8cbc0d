//! Makes synthetic batches from trained teachers: DeepInversion and Adaptive DeepInversion (Yin et
//! al. 2020, arXiv:1912.08795).
//!
//! [`losses`] computes the terms, [`objective`] combines them over teachers and student, [`fused`]
//! computes them fast, [`engine`] optimises one batch, and [`Inverter`] makes the batches that the
//! settings describe. Called by the stages `generate_initial` and `train_student`; knows models,
//! but neither files nor images of a dataset.

mod checks;
mod class_shares;
mod derivation;
mod draws;
pub mod engine;
mod ensemble;
pub mod fused;
mod inverter;
mod labels;
pub mod losses;
pub mod objective;
mod pixels;
mod settings;
mod start;
mod store;
mod synthesizer;
mod teacher;
mod teacher_cache;

pub(crate) use checks::warn_of_labels;
pub use class_shares::estimate_class_shares;
pub(crate) use derivation::Derivation;
pub(crate) use engine::History;
pub use engine::TermsAt;
pub(crate) use ensemble::weighted_mean;
pub use ensemble::{Ensemble, Origin, predict};
pub use inverter::{Inverter, SyntheticBatch};
pub(crate) use labels::class_counts;
pub use labels::draw_labels;
pub(crate) use pixels::BestBatch;
pub use pixels::PixelAdam;
pub use settings::*;
pub use start::Start;
pub use store::{BatchStore, MemoryStore, Moments, StoredBatch};
pub use synthesizer::{LossTerm, Synthesizer};
pub use teacher::{LabelMask, Teacher};
pub use teacher_cache::{Loaded, TeacherCache};
