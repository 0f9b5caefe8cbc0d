//! `fed_avg`: the baseline of many rounds.

mod allocator;

use fed_distill::{cli, run::stages, stage};

fn main() -> std::process::ExitCode {
    cli::main(&stages::FED_AVG, stage::fed_avg::run)
}
