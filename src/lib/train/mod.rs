//! The one training loop and its parts.

mod settings;

pub use settings::*;
