//! Inversion: synthetic batches from trained teachers, DeepInversion and Adaptive DeepInversion
//! (Yin et al. 2020, arXiv:1912.08795).
//!
//! From the inside out: [`losses`] are the terms, [`objective`] joins them over teachers and
//! student, [`fused`] computes them fast, [`engine`] optimises one batch, [`Inverter`] makes batch
//! after batch as configured. Called by the stages `generate_initial` and `train_student`; knows
//! models, never files or images of a dataset.

mod checks;
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
mod shelf;
mod store;
mod teacher;

pub use engine::TermsAt;
pub use ensemble::Ensemble;
pub use inverter::{Inverter, SyntheticBatch};
pub use labels::draw_labels;
pub use pixels::PixelAdam;
pub use settings::*;
pub use shelf::{Loaded, Shelf};
pub use store::{BatchStore, MemoryStore, Moments, Stored};
pub use teacher::{LabelMask, Teacher};
