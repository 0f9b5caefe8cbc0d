//! Trains models: the training loop [`fit`], the sources of its batches, its losses, its update
//! rules and schedules, and the evaluation of a model.
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

pub use callback::{Callback, Steps};
pub use evaluate::{Evaluation, evaluate, is_evaluated, predicted_classes};
pub(crate) use fit::refuse_diverged;
pub use fit::{EpochReport, FitSettings, fit};
pub use objective::{CrossEntropy, Objective};
pub use optimizer::Optimizer;
pub use schedule::SchedulePoint;
pub use settings::*;
pub use source::{Batch, BatchSource, Shuffled, View, steps};
pub(crate) use state::restore;
pub use state::{FitState, Position};
