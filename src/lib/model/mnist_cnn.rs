//! Defines the network of PyTorch's MNIST example (<https://github.com/pytorch/examples>, `mnist`),
//! which is that of Keras's: 3×3 convolutions of 32 and 64 channels, 2×2 max pooling, dropout of a
//! quarter, a linear layer of 128 with ReLU, dropout of a half, and the output: 1,199,882
//! parameters at 1×28×28 and 10 classes.

use super::builder::Builder;
use super::settings::ModelSpec;
use super::stack::{Dropout, Stack, Stage};
use crate::Result;

/// Builds the layers `conv1`, `conv2`, `fc1` and `fc2`.
pub(super) fn mnist_cnn(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    let conv = |channels, pool| Stage {
        channels,
        kernel: 3,
        padding: 0,
        pool,
    };
    let stack = Stack::new(spec, builder, &[conv(32, false), conv(64, true)], &[128])?;
    Ok(stack.with_dropout(Dropout {
        features: 64,
        hidden: 128,
    }))
}
