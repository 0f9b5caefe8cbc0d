//! Defines networks: architectures with PyTorch's names, initialisation and batch norm, and their
//! state dicts.
//!
//! Used by `inversion`, `train`, `federated` and the stages; knows nothing of files, folders or
//! command lines. Tensors have names and an order of ours instead of libtorch's variable store:
//! those of PyTorch, so that a student opens in Python with `strict=True`.

mod builder;
mod cnn5;
mod differentiate;
mod dropout;
mod fedavg_cnn;
mod layers;
mod lenet;
mod linear;
mod load;
mod mean;
mod mnist_cnn;
mod network;
mod precision;
mod resnet;
mod settings;
mod spec;
mod stack;
mod wrn;

pub use crate::artifact::StateDict;
pub(crate) use builder::{Builder, Entry, Values, drawn};
pub use differentiate::Differentiated;
pub use dropout::Masks;
pub use layers::{BatchNorm, Conv, Pass};
pub(crate) use layers::{Linear, Window, channels_last};
pub use mean::{weighted_mean, weighted_mean_of};
pub use network::Model;
pub use precision::{Precision, PrecisionChoice};
pub use resnet::{Block, ConvNorm, ResNet};
pub use settings::{ModelKind, ModelSettings, ModelSpec};
pub use stack::{FrozenStack, StackTape};
