//! Networks: architectures with PyTorch's names, initialisation and batch norm, and their state
//! dicts.
//!
//! Used by `inversion`, `train` and `stage`; knows nothing of files, folders or command lines.
//! Tensors are our own named ones, in the order in which PyTorch registers them, so that a student
//! opens in Python with `strict=True`.

mod builder;
mod cnn5;
mod fedavg_cnn;
mod layers;
mod lenet;
mod linear;
mod load;
mod mean;
mod network;
mod resnet;
mod settings;
mod spec;
mod stack;

pub use crate::artifact::StateDict;
pub use layers::{BatchNorm, Pass};
pub use mean::{weighted_mean, weighted_mean_of};
pub use network::Model;
pub use resnet::{Block, ConvNorm, ResNet};
pub use settings::{ModelKind, ModelSettings, ModelSpec};
