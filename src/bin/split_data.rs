//! `split_data`: deals a dataset's images to nodes.

mod allocator;

use fed_distill::{cli, run::stages, stage};

fn main() -> std::process::ExitCode {
    cli::main(&stages::SPLIT_DATA, stage::split_data::run)
}
