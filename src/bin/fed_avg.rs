//! `fed_avg`: the baseline of many rounds.

use fed_distill::{cli, run::stages, stage};

fn main() -> std::process::ExitCode {
    cli::main(&stages::FED_AVG, stage::fed_avg::run)
}
