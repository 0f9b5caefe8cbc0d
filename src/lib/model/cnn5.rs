//! Defines the five-layer CNN with which DENSE (Zhang et al. 2022, arXiv:2112.12371) and
//! Co-Boosting (Dai et al. 2024, arXiv:2402.15070) report on CIFAR-10 and SVHN: three 3×3
//! convolutions of 128 channels, the first two followed by 2×2 max pooling, and a linear layer.
//!
//! The five layers are the convolutions and poolings before the classifier; there is no batch norm.
//! The convolutions are unpadded, as in the authors' code; below 18 pixels nothing would be left,
//! so there (our deviation) they are padded by 1.

use super::builder::Builder;
use super::settings::ModelSpec;
use super::stack::{Stack, Stage};
use crate::Result;

/// Builds the layers `conv1` to `conv3` and `fc1`.
pub(super) fn cnn5(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    let conv = |pool| Stage {
        channels: 128,
        kernel: 3,
        padding: if spec.size < 18 { 1 } else { 0 },
        pool,
    };
    Stack::new(spec, builder, &[conv(true), conv(true), conv(false)], &[])
}
