//! Files: atomic writes, JSON, tensors.

mod atomic;
mod json;
mod tensors;
