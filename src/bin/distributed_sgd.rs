//! `distributed_sgd`: the baseline that shares every batch.

mod allocator;

use fed_distill::{cli, run::stages, stage};

fn main() -> std::process::ExitCode {
    cli::main(&stages::DISTRIBUTED_SGD, stage::distributed_sgd::run)
}
