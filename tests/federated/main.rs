//! The federated algorithms as a library: against PyTorch, against the training loop, against
//! themselves over one rank and several, and what becomes of ranks that fail.

mod distributed_sgd;
mod elsewhere;
mod fed_avg;
mod fed_md;
#[allow(dead_code)] // these tests read no files
#[path = "../common/machine.rs"]
mod machine;
mod ranks;
mod support;
