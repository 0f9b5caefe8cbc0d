//! Inversion: synthetic batches from trained teachers.

mod settings;

pub use settings::*;
