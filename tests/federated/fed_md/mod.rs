//! FedMD against PyTorch, against itself over one rank and several, and in cases whose outcome is
//! known.

pub mod course;
mod oracle;
mod outcomes;
pub mod support;
