//! One-shot federated learning by dataset distillation.
//!
//! Clients train *teachers* on their private images and upload the weights once. The server inverts
//! the teachers into synthetic images and trains a *student* on them; it never sees an image of a
//! client.
//!
//! ```text
//!  private images ─split_data─▶ split.json ─train_teachers─▶ model_teacher{i}.safetensors
//!                                                                │ one upload a client
//!        ┌──────────── the server sees weights only ─────────────┴───────────────┐
//!        │  generate_initial: noise ─▶ inversion of the teachers ─▶ initial.safetensors
//!        │  train_student: initial and fresh batches ─▶ student.safetensors      │
//!        └───────────────────────────────────────────────────────────────────────┘
//!  inspect: tables, plots and an HTML report of what the stages wrote
//! ```
//!
//! The five names in this diagram are binaries; each stage is one function of [`stage`]. `fed_avg`,
//! `fed_md` and `distributed_sgd` are the multi-round baselines.
//!
//! # Use as a library
//!
//! The learning modules need no files, config keys or command line; `examples/` has whole programs.
//! This one deals the embedded digits to two clients, and each trains a teacher on its images:
//!
//! ```
//! use fed_distill::data::{DatasetSettings, load};
//! use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec, Pass};
//! use fed_distill::partition::{Dirichlet, Split};
//! use fed_distill::runtime::seed::Seeds;
//! use fed_distill::train::{
//!     AugmentSettings, Callback, CrossEntropy, EpochReport, FitSettings, OptimizerSettings,
//!     ScheduleSettings, Shuffled, evaluate, fit,
//! };
//! use tch::{Device, Tensor};
//!
//! /// Prints the loss of each epoch.
//! struct PrintLoss;
//!
//! impl Callback for PrintLoss {
//!     fn epoch(&mut self, _: &Model, report: &EpochReport) -> fed_distill::Result<()> {
//!         println!("epoch {}: loss {:.3}", report.epoch, report.train_loss);
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> fed_distill::Result<()> {
//! let (device, seeds) = (Device::Cpu, Seeds::new(42));
//! let digits = load(&DatasetSettings::default(), device)?;
//! let classes = digits.classes.len();
//!
//! let partitioner = Dirichlet { nodes: 2, alpha: 1.0, min_size: 10 };
//! let (train, test) = (&digits.train.label_list, &digits.test.label_list);
//! let split = Split::new(&partitioner, train, test, classes, &mut seeds.stream("split", 0))?;
//!
//! let lenet = ModelSettings { kind: ModelKind::Lenet5, ..ModelSettings::default() };
//! let spec = ModelSpec::new(&lenet, digits.channels(), digits.size(), classes as i64)?;
//! let settings = FitSettings {
//!     epochs: 2,
//!     optimizer: OptimizerSettings { lr: 0.05, ..OptimizerSettings::default() },
//!     schedule: ScheduleSettings::Constant,
//! };
//! for (client, part) in split.nodes.iter().enumerate() {
//!     let images = digits.train.select(&part.train)?;
//!     let mut rng = seeds.stream("initialisation", client as u64);
//!     let mut teacher = Model::new(&spec, device, &mut rng)?;
//!     let augment = AugmentSettings { crop: 1, flip: false };
//!     let stream = format!("batches of client {client}");
//!     let mut batches =
//!         Shuffled::new(&images, &digits.normalisation, augment, 32, seeds, stream);
//!     let loss = CrossEntropy::default();
//!     fit(&mut teacher, &mut batches, &loss, &settings, None, &mut PrintLoss)?;
//!
//!     let logits = |images: &Tensor| Ok(teacher.forward(images, &mut Pass::Eval));
//!     let result = evaluate(&logits, &digits.test, &digits.normalisation, classes, 256)?;
//!     println!("client {client}: accuracy {:?}", result.accuracy());
//!     # assert!(result.accuracy() > Some(0.15));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The server's part comes next. An [`inversion::Inverter`] makes synthetic batches from
//! [`inversion::Teacher`]s; it matches their batch-norm statistics, which a
//! [`model::ModelKind::Resnet18`] has and the LeNet-5 above has not. A [`distill::GrowingSet`]
//! keeps the batches, a [`distill::AdaptiveSource`] adds fresh ones while the student trains, and
//! [`train::fit`] trains the student on them with [`distill::Distillation`] as its loss.
//!
//! # Modules
//!
//! Modules form layers; a module imports only from its own layer and those below, and no two
//! modules import each other:
//!
//! | layer | modules |
//! |---|---|
//! | [`cli`] | arguments, sweeps, exit codes |
//! | [`stage`], [`inspect`] | one file or folder a binary; one file a subcommand |
//! | `network` | with the feature `net`: federation over HTTP |
//! | [`run`] | context, manifest, checkpoints, metrics, ranks: what every stage shares |
//! | [`config`], [`report`] | composition into one typed struct; tables, plots, HTML |
//! | [`data`], [`partition`], [`model`], [`optim`], [`train`], [`inversion`], [`generator`], [`distill`], [`federated`] | learning: nothing here knows config keys, run directories or command lines |
//! | [`artifact`], [`runtime`] | file formats; device, threads, seeds, logging, progress |
//! | [`error`], [`setting`], [`words`] | the error type; which settings a result depends on; counts and percentages in messages |
//!
//! # Effects on the whole program
//!
//! Linking the crate changes nothing in the rest of a program. The signal handler, the log and the
//! number of libtorch's threads are set by functions of [`runtime`], which [`run`] calls when a
//! stage starts.
//!
//! The binaries use jemalloc as their `malloc`: a module of theirs (`src/bin/allocator`) links it,
//! under the feature `jemalloc`, which is a default feature. The library never refers to jemalloc,
//! so a program that links the library keeps its own allocator. `default-features = false` saves
//! compiling jemalloc.

// Nothing of it is named in Rust; what is not named is not linked.
extern crate fed_distill_passes as _;

pub mod artifact;
pub mod cli;
pub mod config;
pub mod data;
pub mod distill;
pub mod error;
pub mod federated;
pub mod generator;
pub mod inspect;
pub mod inversion;
pub mod model;
#[cfg(feature = "net")]
pub mod network;
pub mod optim;
pub mod partition;
pub mod report;
pub mod run;
pub mod runtime;
pub mod setting;
pub mod stage;
pub mod train;
pub mod words;

pub use error::{Class, During, Error, Result};
