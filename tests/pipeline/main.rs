//! The stage binaries end to end on tiny data, as a user runs them.

mod baselines;
mod cache;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod evaluation;
mod experiments;
mod identity;
mod parties;
mod partition;
mod python_reads;
mod refusals;
mod resume;
mod stages;
mod sweeps;
mod tensorboard_reads;
mod threads;
