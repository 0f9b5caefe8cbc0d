//! Federated averaging against PyTorch, against the same steps written out by hand, and against
//! itself over one rank and several.

mod course;
mod oracle;
mod outcomes;
pub mod support;
