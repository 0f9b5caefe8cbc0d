//! Reads and writes file formats: atomic writes, JSON without NaN, safetensors and PyTorch files,
//! hashes, locks.
//!
//! Everything that is written to disk is written through this module. It knows tensors and state
//! dicts, but neither networks nor datasets nor splits.

pub mod atomic;
pub(crate) mod fault;
pub mod hash;
pub mod json;
pub mod lock;
pub(crate) mod pickle;
mod pytorch;
mod state_dict;
pub mod tensors;

pub use state_dict::StateDict;
