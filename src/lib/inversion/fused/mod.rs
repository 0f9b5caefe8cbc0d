//! Computes what [`super::objective::inversion_loss`] and autograd compute, for frozen residual
//! networks, in fewer passes over memory. Called by [`super::engine`]; other models use autograd.
//!
//! `net` passes images through the network, forward and backward, with a `backend::Backend`:
//! `passes`, C++ for float32 on the CPU, or [`operations`], libtorch's for CUDA and for bfloat16.
//!
//! # What remains to be computed when weights are frozen
//!
//! Only the images' gradient is wanted, so a step is, for each network, the convolutions forward,
//! the convolutions backward with respect to their inputs, and the layers between them. On the CPU,
//! convolutions of 3×3 at stride 1 between 32 channels or more are computed by Winograd's products
//! ([`winograd`]) where that is faster; libtorch runs the others (oneDNN, channels last: no
//! reordering between layers, and the gradient of a convolution with respect to its input is a
//! transposed convolution).
//! Everything between two convolutions is one pass of `activations.cpp` over the data. On CUDA
//! cuDNN runs all convolutions, and the layers between them take a kernel for each of statistics,
//! norm, shortcut and ReLU.
//!
//! # Algebra
//!
//! Let x [rows, C] be the input of a batch norm, rows = N·H·W, with running mean m and variance v,
//! weight γ, bias β.
//!
//! **Forward.** The frozen norm is the affine map y = a·x + b, a = γ/√(v+ε), b = β − a·m
//! ([`norm::Norm`]); then come the shortcut and the ReLU. The same pass sums d = x − m and d² per
//! channel. With M rows, s = Σd/M is mean(x) − m, and q = Σd²/M − s² is the biased variance: around
//! m instead of zero both moments are small differences, so nothing cancels.
//!
//! Folding a and b into the convolution's weights would save nothing here: the pass has to be made
//! for the ReLU, and its multiplication is hidden behind the memory it waits for. Unfolded, x
//! itself is seen, and γ may be zero or negative.
//!
//! **Distance.** The layer's term is R = ‖s‖ + ‖v − q‖ (Yin et al. 2020, arXiv:1912.08795, eq. 4,
//! norms not squared). From ∂s/∂x = 1/M and ∂q/∂x = 2(x − mean)/M, with mean = m + s:
//!
//! ∂R/∂x = s/(‖s‖·M) + 2(q − v)(x − mean)/(‖v − q‖·M) = offset + slope·x
//!
//! with slope = 2(q − v)/(‖v − q‖·M) and offset = s/(‖s‖·M) − slope·mean
//! ([`norm::Moments::distance_gradient`]).
//!
//! **Backward.** For an upstream gradient g of the ReLU's output h,
//!
//! ∂L/∂x = a·g·`[h > 0]` + λ(offset + slope·x),
//!
//! one pass that reads g and x. At the end of a block the same masked g is passed to both branches,
//! and the two gradients with respect to a block's input are added by the pass that reads them.
//!
//! A network whose statistics are not observed (the student, or a teacher that the batch is not
//! made from) stores h in the memory of x: its backward pass needs only the sign.
//!
//! Losses on logits are computed by the functions that autograd's path uses, with autograd, on
//! matrices of [N, classes].

mod backend;
mod engine;
mod ffi;
mod filter;
mod frozen;
pub mod kernels;
mod net;
pub mod norm;
pub mod operations;
mod passes;
mod statistics;
pub mod winograd;

pub(super) use engine::FusedEngine;
pub(super) use filter::{first, last};
pub use frozen::{Backward, ForwardPass, Frozen};
