//! Does what every stage shares around its work: the context it starts with, the decision whether
//! its result is to be made, kept or resumed, the manifest, the lock, checkpoints, metrics, and the
//! ranks that share one run.
//!
//! [`context`] opens a stage. [`job`] performs one run: admission, lock, [`manifest`], checkpoints,
//! log, and the config beside it (`config_record`); `result_path` checks where it will write, and
//! `bounds` what its settings ask for; [`of_sweep`] names inputs that a sweep wrote elsewhere.
//! [`ranks`] performs a run that several ranks share. [`journal`] writes metrics as they come;
//! [`checkpoint`] and `checkpointer` save what an interrupted run resumes from; [`rounds`] does
//! both for the multi-round baselines. [`weights`] is the file format of teachers and students,
//! [`metrics`] that of their accuracies, [`split`] reads the split that all stages work on.
//! [`stages`] declares each stage once: its name, the config that it reads, what its result depends
//! on. [`agreement`] compares models with the data they meet.
//!
//! Functions return `anyhow::Result`; those of the file formats ([`manifest`], [`checkpoint`],
//! [`weights`]) return the typed error, to which they add labelled lines.

pub mod agreement;
mod best_weights;
mod bounds;
pub mod checkpoint;
mod checkpointer;
mod comparison;
mod config_record;
pub mod context;
pub(crate) mod guard;
pub mod job;
pub mod journal;
pub mod manifest;
pub mod metrics;
pub mod of_sweep;
pub mod ranks;
mod result_path;
pub mod rounds;
pub mod split;
pub mod stages;
pub mod weights;

pub use best_weights::BestWeights;
pub use bounds::Demand;
pub use checkpointer::Checkpointer;
pub use comparison::Comparison;
pub use context::{StageContext, open, open_for, required};
pub use result_path::free_space;
