//! Files: atomic writes, JSON, manifests, tensors.

mod atomic;
mod json;
mod manifest;
mod tensors;
