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
//! Modules form layers; a module imports only from layers below its own:
//!
//! | layer | modules |
//! |---|---|
//! | [`cli`] | arguments, sweeps, exit codes |
//! | [`stage`], [`inspect`] | one file or folder a binary; one file a subcommand |
//! | [`run`] | context, manifest, checkpoints, metrics, ranks: what every stage shares |
//! | [`config`], [`report`] | composition into one typed struct; tables, plots, HTML |
//! | [`data`], [`partition`], [`model`], [`descent`], [`train`], [`inversion`], [`distill`], [`federated`] | learning: nothing here knows config keys, run directories or command lines |
//! | [`artifact`], [`runtime`] | file formats; device, threads, seeds, logging, progress |
//! | [`error`], [`setting`], [`words`] | the error type; which settings a result depends on; counts and percentages in messages |

pub mod artifact;
pub mod cli;
pub mod config;
pub mod data;
pub mod descent;
pub mod distill;
pub mod error;
pub mod federated;
pub mod inspect;
pub mod inversion;
pub mod model;
pub mod partition;
pub mod report;
pub mod run;
pub mod runtime;
pub mod setting;
pub mod stage;
pub mod train;
pub mod words;

pub use error::{Class, During, Error, Result};
