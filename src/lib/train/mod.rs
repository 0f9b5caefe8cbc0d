//! The one training loop and its parts: where batches come from, what is minimised, how weights
//! move, how accuracy is measured.
//!
//! Called by the stages and the baselines. Knows models and images; knows nothing of config files,
//! folders or command lines.

mod callback;
mod evaluate;
mod fit;
mod objective;
mod optimizer;
mod schedule;
mod settings;
mod source;
mod state;

pub use callback::Callback;
pub use evaluate::{Evaluation, evaluate};
pub use fit::{EpochReport, FitSettings, fit};
pub use objective::{CrossEntropy, Objective};
pub use optimizer::Optimizer;
pub use schedule::Moment;
pub use settings::*;
pub use source::{Batch, BatchSource, Shuffled, steps};
pub use state::{FitState, Position};
