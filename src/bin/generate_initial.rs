//! `generate_initial`: inverts the teachers into the synthetic batches that the student starts
//! with.

mod allocator;

use fed_distill::{cli, run::stages, stage};

fn main() -> std::process::ExitCode {
    cli::main(&stages::GENERATE_INITIAL, stage::generate_initial::run)
}
