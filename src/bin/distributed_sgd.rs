//! `distributed_sgd`: the baseline that shares every batch.

mod allocator;

use fed_distill::{cli, stage};

fn main() -> std::process::ExitCode {
    cli::main(&cli::Stage {
        name: "distributed_sgd",
        about: "Trains one model by SGD over several ranks (centralised, all_reduce or parameter_server), and counts every byte (a baseline).",
        reads: "the dataset",
        writes: "distributed_sgd.save_folder: model.safetensors, metrics.jsonl (a line a mean loss), metrics.json; a table on stdout",
        output: "distributed_sgd.save_folder",
        groups: &["experiment", "dataset", "model", "distributed_sgd"],
        run: stage::distributed_sgd::run,
    })
}
