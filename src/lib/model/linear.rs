//! Softmax regression: the pixels, flattened, and one linear layer `fc1`. A convex problem, whose
//! results need no luck.

use super::builder::Builder;
use super::settings::ModelSpec;
use super::stack::Stack;
use crate::Result;

pub(super) fn linear(spec: &ModelSpec, builder: &mut Builder) -> Result<Stack> {
    Stack::new(spec, builder, &[], &[])
}
