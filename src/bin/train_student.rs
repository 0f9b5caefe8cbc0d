//! `train_student`: trains one student on synthetic batches and compares it with the teachers.

mod allocator;

use fed_distill::{cli, stage};

fn main() -> std::process::ExitCode {
    cli::main(&cli::Stage {
        name: "train_student",
        about: "Trains one student on the synthetic batches, making fresh ones against it as it learns.",
        reads: "teacher.save_folder, initial.save_path, split.save_path (if set), the dataset's test images",
        writes: "student.save_folder: student.safetensors, dataset.safetensors, metrics.json, di_metrics_teacher{i}.json, pictures; a table on stdout",
        output: "student.save_folder",
        groups: &[
            "experiment",
            "dataset",
            "model",
            "split",
            "teacher",
            "deep_inv",
            "initial",
            "student",
        ],
        run: stage::train_student::run,
    })
}
