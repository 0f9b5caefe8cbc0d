//! `inspect`: looks at what the stages left.

mod allocator;

use fed_distill::{cli, inspect};

fn main() -> std::process::ExitCode {
    cli::tool(inspect::run)
}
