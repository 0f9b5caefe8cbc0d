//! `train_teachers`: each node trains a teacher on its own images.

mod allocator;

use fed_distill::{cli, stage};

fn main() -> std::process::ExitCode {
    cli::main(&cli::Stage {
        name: "train_teachers",
        about: "Trains one teacher a node on the node's own images (one on everything when there is no split).",
        reads: "the dataset; split.save_path, if set",
        writes: "teacher.save_folder: model_teacher{i}.safetensors (all that a node uploads), metrics_teacher{i}.json",
        output: "teacher.save_folder",
        groups: &["experiment", "dataset", "model", "split", "teacher"],
        run: stage::train_teachers::run,
    })
}
