//! `generate_initial`: inverts the teachers into the synthetic batches that the student starts
//! with.

mod allocator;

use fed_distill::{cli, stage};

fn main() -> std::process::ExitCode {
    cli::main(&cli::Stage {
        name: "generate_initial",
        about: "Inverts the teachers into the synthetic batches that the student starts with. Sees no image of any node.",
        reads: "teacher.save_folder: the teachers' weights; split.save_path (if set), to see that they belong to it; dataset and model for teachers without a card (PyTorch's .pt)",
        writes: "initial.save_path: images and labels as safetensors; a grid (PNG), loss terms (JSON, PNG) beside it",
        output: "initial.save_path",
        groups: &[
            "experiment",
            "dataset",
            "model",
            "split",
            "teacher",
            "deep_inv",
            "initial",
        ],
        run: stage::generate_initial::run,
    })
}
