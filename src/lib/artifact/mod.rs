//! Files on disk: atomic writes, tensors, JSON, manifests.

mod pickle;
mod pytorch;
pub mod tensors;
