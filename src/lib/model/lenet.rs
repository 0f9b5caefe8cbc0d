//! Defines LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition")
//! in its usual modern form: ReLU, max pooling, full connections between the feature maps, and a
//! linear output.

use super::builder::Builder;
use super::settings::ModelSpec;
use super::stack::{Stack, Stage};
use crate::Result;

/// Builds the padded form. The first 5×5 convolution is padded by 2, so 28×28 images give the
/// published 400 features. Below 12 pixels the second one is padded by 2 as well, or nothing would
/// be left.
pub(super) fn lenet5(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    let second_padding = if spec.size < 12 { 2 } else { 0 };
    padded(spec, builder, [2, second_padding])
}

/// Builds the form without padding: 32×32 images give 400 features, as in the paper.
pub(super) fn lenet5_unpadded(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    padded(spec, builder, [0, 0])
}

/// Builds the layers with the given padding of the two convolutions, in pixels.
fn padded(spec: &ModelSpec, builder: &mut Builder, [first, second]: [i64; 2]) -> Result<Stack> {
    let conv = |channels, padding| Stage {
        channels,
        kernel: 5,
        padding,
        pool: true,
    };
    Stack::new(
        spec,
        builder,
        &[conv(6, first), conv(16, second)],
        &[120, 84],
    )
}
