//! Distils a student on the server: the growing set of synthetic batches, the source that adds
//! fresh ones while the student trains, and the loss whose targets are the teachers' predictions.
//!
//! Called by the `train_student` stage, and by `inspect neighbours`, which looks for the nearest
//! real image of each synthetic one. Uses `inversion`, which makes batches, and `train`, which
//! runs the training loop.

mod growing;
mod logits;
mod nearest;
mod objective;
mod perturbation;
mod source;
mod teacher_weights;

pub use growing::{GrowingSet, Order, SyntheticImages};
pub use logits::LogitCache;
pub use nearest::{Nearest, NearestSearch};
pub use objective::Distillation;
pub use perturbation::Perturbation;
pub use source::{AdaptiveSource, FreshBatch, FreshReport, SourceSettings};
pub use teacher_weights::{TeacherWeightSettings, TeacherWeights};
