//! `split_data`: deals a dataset's images to nodes.

mod allocator;

use fed_distill::{cli, stage};

fn main() -> std::process::ExitCode {
    cli::main(&cli::Stage {
        name: "split_data",
        about: "Deals a dataset's training and test images to nodes.",
        reads: "the dataset",
        writes: "split.save_path: the split as JSON, a stacked-bar plot beside it; a table of counts on stdout",
        output: "split.save_path",
        groups: &["experiment", "dataset", "split"],
        run: stage::split_data::run,
    })
}
