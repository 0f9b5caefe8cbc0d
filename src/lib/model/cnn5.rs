//! Defines the small CNNs with which DENSE (Zhang et al. 2022, arXiv:2112.12371) reports: three 3×3
//! convolutions, the first two followed by 2×2 max pooling, and linear layers.
//!
//! The larger one, of 128 channels and one linear layer, is also that of Co-Boosting (Dai et al.
//! 2024, arXiv:2402.15070) on CIFAR-10 and SVHN; its five layers are the convolutions and poolings
//! before the classifier. Both are clients of DENSE's federation of different architectures, beside
//! ResNet-18, WRN-16-1 and WRN-40-1.
//!
//! There is no batch norm. The convolutions are unpadded, as in the authors' code; below 18 pixels
//! nothing would be left, so there (our deviation) they are padded by 1.

use super::builder::Builder;
use super::settings::ModelSpec;
use super::stack::{Stack, Stage};
use crate::Result;

/// Builds the layers `conv1` to `conv3`, of 128 channels each, and `fc1`.
pub(super) fn cnn5(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    three(spec, builder, [128, 128, 128], &[])
}

/// Builds the layers `conv1` to `conv3`, of 32, 64 and 64 channels, `fc1` of 64 outputs, and `fc2`:
/// 122,570 parameters at 3×32×32 and 10 classes.
pub(super) fn cnn64(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    three(spec, builder, [32, 64, 64], &[64])
}

/// Builds three convolutions of these output channels, hidden linear layers, and the last one.
fn three(
    spec: &ModelSpec,
    builder: &mut Builder,
    channels: [i64; 3],
    hidden: &[i64],
) -> Result<Stack> {
    let [first, second, third] = channels;
    let conv = |channels, pool| Stage {
        channels,
        kernel: 3,
        padding: if spec.size < 18 { 1 } else { 0 },
        pool,
    };
    let stages = [conv(first, true), conv(second, true), conv(third, false)];
    Stack::new(spec, builder, &stages, hidden)
}
