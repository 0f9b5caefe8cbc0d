//! `fed_md`: the baseline of many rounds in which scores travel and not weights.

mod allocator;

use fed_distill::{cli, run::stages, stage};

fn main() -> std::process::ExitCode {
    cli::main(&stages::FED_MD, stage::fed_md::run)
}
