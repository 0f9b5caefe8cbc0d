//! Networks.

mod settings;

pub use settings::{ModelKind, ModelSettings, ModelSpec};
