//! One-shot federated learning by dataset distillation.
//!
//! ```text
//!  private images ──split_data──▶ split.json ──train_teachers──▶ model_teacher{i}.safetensors   (each node uploads once)
//!                                                                      │
//!                 ┌──────────────── the server sees weights only ──────┴──────────────┐
//!                 │  generate_initial: noise ─▶ inversion against the teachers ─▶ initial.safetensors
//!                 │  train_student:    initial + fresh adaptive batches ─▶ student.safetensors
//!                 └───────────────────────────────────────────────────────────────────┘
//!  inspect: tables, pictures and an HTML report of whatever the stages left
//! ```
//!
//! Rooms, from the ground up: `error`, [`words`], [`runtime`] (device, seeds, progress) and
//! [`artifact`] (files on disk) know nothing of learning; [`data`], [`partition`], [`model`],
//! [`descent`], [`inversion`], [`distill`], [`train`] and [`federated`] (baselines of many rounds,
//! over threads or MPI) know nothing of config files, folders or command lines; [`config`] composes
//! typed settings; [`report`] draws; [`stage`] joins config, engines and artifacts, one file a
//! binary; [`cli`] runs a stage.

pub mod artifact;
pub mod cli;
pub mod config;
pub mod data;
pub mod descent;
pub mod distill;
pub mod error;
pub mod federated;
pub mod inversion;
pub mod model;
pub mod partition;
pub mod report;
pub mod runtime;
pub mod stage;
pub mod train;
pub mod words;

pub use error::{Class, During, Error, Result};
