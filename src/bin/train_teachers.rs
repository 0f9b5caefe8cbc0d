//! `train_teachers`: each node trains a teacher on its own images.

mod allocator;

use fed_distill::{cli, run::stages, stage};

fn main() -> std::process::ExitCode {
    cli::main(&stages::TRAIN_TEACHERS, stage::train_teachers::run)
}
