//! `serve`: the server of a federation over HTTP.

mod allocator;

use fed_distill::{cli, stage};

fn main() -> std::process::ExitCode {
    cli::tool(stage::serve::run)
}
