//! Defines softmax regression: one linear layer `fc1` on the flattened pixels. Its training is a
//! convex problem, so results do not depend on a lucky initialisation.

use super::builder::Builder;
use super::settings::ModelSpec;
use super::stack::Stack;
use crate::Result;

/// Builds the layer `fc1`.
pub(super) fn linear(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    Stack::new(spec, builder, &[], &[])
}
