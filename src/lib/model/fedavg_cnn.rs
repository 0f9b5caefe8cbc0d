//! Defines the MNIST CNN of McMahan et al. 2017 (arXiv:1602.05629, section 3): two 5×5 convolutions
//! of 32 and 64 channels, each followed by 2×2 max pooling, a linear layer of 512 with ReLU, and
//! the output. "Same" padding gives the published 1,663,370 parameters at 1×28×28.

use super::builder::Builder;
use super::settings::ModelSpec;
use super::stack::{Stack, Stage};
use crate::Result;

/// Builds the layers `conv1`, `conv2`, `fc1` and `fc2`.
pub(super) fn fedavg_cnn(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    let conv = |channels| Stage {
        channels,
        kernel: 5,
        padding: 2,
        pool: true,
    };
    Stack::new(spec, builder, &[conv(32), conv(64)], &[512])
}
