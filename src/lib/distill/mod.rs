//! The server's training of the student: the growing set of synthetic batches, the source that adds
//! to it while the student trains, and the objective that takes the teachers' predictions as
//! targets.
//!
//! Called by the `train_student` stage. Stands on `inversion` (which makes batches) and `train`
//! (which runs the loop).

mod growing;
mod nearest;
mod objective;
mod source;

pub use growing::GrowingSet;
pub use nearest::{Nearest, Search};
pub use objective::Distillation;
pub use source::{AdaptiveSource, Attendant, FreshReport, SourceSettings};
