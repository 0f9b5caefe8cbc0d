//! Deals a dataset to nodes.

use fed_distill::cli::{Stage, main as cli_main};
use std::process::ExitCode;

const STAGE: Stage = Stage {
    name: "split_data",
    about: "Deals the images of a dataset to nodes.",
    reads: "the dataset",
    writes: "split.save_path: a JSON file of image indices for each node",
    groups: &["dataset", "split"],
    run: |_| Ok(()),
};

fn main() -> ExitCode {
    cli_main(&STAGE)
}
