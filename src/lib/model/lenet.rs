//! LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition") in its usual modern form: ReLU, max pooling,
//! full connections between the feature maps, and a linear output.
//!
//! The first 5×5 convolution is padded by 2, so 28×28 images give the published 400 features. Below 12 pixels the second one is padded by
//! 2 as well, or nothing would be left.

use super::builder::Builder;
use super::settings::ModelSpec;
use super::stack::{Stack, Stage};
use crate::Result;

pub(super) fn lenet5(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    let conv = |channels, padding| Stage {
        channels,
        kernel: 5,
        padding,
        pool: true,
    };
    let second_padding = if spec.size < 12 { 2 } else { 0 };
    Stack::new(spec, builder, &[conv(6, 2), conv(16, second_padding)], &[120, 84])
}
