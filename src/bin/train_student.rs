//! `train_student`: trains one student on synthetic batches and compares it with the teachers.

mod allocator;

use fed_distill::{cli, run::stages, stage};

fn main() -> std::process::ExitCode {
    cli::main(&stages::TRAIN_STUDENT, stage::train_student::run)
}
