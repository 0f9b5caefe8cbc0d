//! `fed_md`: the baseline of many rounds in which scores travel and not weights.

mod allocator;

use fed_distill::{cli, stage};

fn main() -> std::process::ExitCode {
    cli::main(&cli::Stage {
        name: "fed_md",
        about: "Trains a model of its own architecture at each node of a split: in many rounds they learn from each other's scores of public images (FedMD), and every byte is counted (a baseline).",
        reads: "split.save_path, the dataset, the public dataset where it is another",
        writes: "fed_md.save_folder: model_node{i}.safetensors, metrics.jsonl (a line a round), metrics.json; tables on stdout",
        output: "fed_md.save_folder",
        groups: &[
            "experiment",
            "dataset",
            "model",
            "split",
            "teacher",
            "fed_md",
        ],
        run: stage::fed_md::run,
    })
}
