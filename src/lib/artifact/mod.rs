//! Files on disk: atomic writes, tensors, JSON, manifests.

pub mod atomic;
mod fault;
mod finite;
pub mod hash;
pub mod json;
pub mod manifest;
