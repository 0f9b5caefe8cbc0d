//! Makes synthetic batches with a generator, a network that maps noise to images and is trained
//! against the teachers and the student: DENSE (Zhang et al. 2022, arXiv:2112.12371), Co-Boosting
//! (Dai et al. 2024, arXiv:2402.15070) and DAFL (Chen et al. 2019, arXiv:1904.01186) are settings
//! of it.
//!
//! [`Generator`] is the network, [`losses`] has the terms, [`GeneratorObjective`] joins them over
//! teachers and student, [`Training`] takes steps, and [`GeneratorSynthesizer`] makes the batches
//! that the settings describe. Called by the stages `generate_initial` and `train_student`; knows
//! models, but neither files nor images of a dataset.

pub mod losses;
mod network;
mod objective;
mod settings;
mod synthesizer;
mod training;

pub use network::Generator;
pub use objective::GeneratorObjective;
pub use settings::*;
pub use synthesizer::GeneratorSynthesizer;
pub use training::Training;
