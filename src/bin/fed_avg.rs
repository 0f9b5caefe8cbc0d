//! `fed_avg`: the baseline of many rounds.

mod allocator;

use fed_distill::{cli, stage};

fn main() -> std::process::ExitCode {
    cli::main(&cli::Stage {
        name: "fed_avg",
        about: "Trains one model over the nodes of a split in many rounds of federated averaging, and counts every byte (a baseline).",
        reads: "split.save_path, the dataset",
        writes: "fed_avg.save_folder: global.safetensors, metrics.jsonl (a line a round), metrics.json; a table on stdout",
        output: "fed_avg.save_folder",
        groups: &[
            "experiment",
            "dataset",
            "model",
            "split",
            "teacher",
            "fed_avg",
        ],
        run: stage::fed_avg::run,
    })
}
