//! Files on disk: atomic writes, JSON without NaN, tensors, hashes, and the manifests that say what belongs together.
//!
//! Stages write through here and nowhere else. Nothing in here knows what a dataset or a split is.

pub mod atomic;
mod fault;
mod finite;
pub mod hash;
pub mod json;
pub mod manifest;
mod pickle;
mod pytorch;
pub mod tensors;
