//! Files on disk: atomic writes, JSON without NaN, tensors, hashes, the manifests that say what
//! belongs together, checkpoints, and locks.
//!
//! Stages write through here and nowhere else. Nothing in here knows what a dataset or a split is.

pub mod atomic;
pub mod checkpoint;
mod fault;
mod finite;
pub mod hash;
pub mod json;
pub mod lock;
pub mod manifest;
mod pickle;
mod pytorch;
pub mod tensors;
