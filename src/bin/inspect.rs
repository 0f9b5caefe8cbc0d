//! `inspect`: looks at what the stages left.

use fed_distill::{cli, stage};

fn main() -> std::process::ExitCode {
    cli::tool(stage::inspect::run)
}
