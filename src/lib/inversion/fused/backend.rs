//! What a frozen network is computed with: the convolutions, and what lies between them.

use super::kernels::{Branch, Side};
use crate::model::{BatchNorm, Conv};
use tch::Tensor;

/// What a unit leaves for the way back.
#[derive(Debug)]
pub struct Seen {
    /// The batch-norm input where statistics are observed, else the ReLU's output.
    pub kept: Tensor,
    /// The ReLU's output, where the way back cannot do without it.
    pub mask: Option<Tensor>,
}

/// Activations are dense [N,H,W,C] in a type of the backend's choice; everything else is float32.
pub trait Backend {
    /// The weights of a convolution.
    type Filter;
    /// A frozen batch norm.
    type Norm;
    /// What a batch-norm input says of its mean and variance.
    type Moments;
    /// The moments of all layers, with what they are measured against.
    type Statistics;
    /// The gradient of a layer's distance with respect to its input.
    type Pull;

    /// The filter of a layer as it is now; `stem`: the one that is given the images.
    fn filter(&self, layer: &Conv, stem: bool) -> Self::Filter;

    /// The norm of a layer as it is now.
    fn norm(&self, layer: &BatchNorm) -> Self::Norm;

    /// Images f32 [N,H,W,C] as the stem takes them.
    fn enter(&self, images: &Tensor) -> Tensor;

    /// [N,H,W,I] to [N,H',W',O].
    fn convolve(&self, filter: &Self::Filter, input: &Tensor) -> Tensor;

    /// The gradient with respect to an input of `to` = (height, width), from that with respect to
    /// the output.
    fn convolve_back(&self, filter: &Self::Filter, gradient: &Tensor, to: (i64, i64)) -> Tensor;

    /// The gradient f32 [N,H,W,C] with respect to the images, from that with respect to the stem's
    /// output.
    fn leave(&self, stem: &Self::Filter, gradient: &Tensor) -> Tensor;

    /// relu(norm(`input`) + side), and what the way back needs. Where `moments` are wanted, those
    /// of `input` and of a normed side are added to them.
    fn forward(
        &self,
        input: Tensor,
        norm: &Self::Norm,
        side: Side<Self::Norm>,
        moments: Option<&mut Vec<Self::Moments>>,
    ) -> (Tensor, Seen);

    /// Turns `gradient` (+ `other`) with respect to relu(norm(x)) into that with respect to x.
    fn backward(
        &self,
        seen: &Seen,
        norm: &Self::Norm,
        pull: Option<&Self::Pull>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> Tensor;

    /// Takes `gradient` (+ `other`) with respect to a block's `output` through its last ReLU:
    /// returns the gradients with respect to the body's last batch-norm input, and to the side (its
    /// batch-norm input, or the block's input).
    fn branch(
        &self,
        output: &Tensor,
        body: &Branch<Self::Norm, Self::Pull>,
        side: Option<&Branch<Self::Norm, Self::Pull>>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> (Tensor, Tensor);

    /// [N,H,W,C] to its mean over height and width, f32 [N,C].
    fn pool(&self, hidden: &Tensor) -> Tensor;

    /// The gradient with respect to activations of `size` = [N,H,W,C], from that with respect to
    /// their mean over height and width, f32 [N,C].
    fn unpool(&self, gradient: &Tensor, size: &[i64]) -> Tensor;

    /// The moments of all layers, in module order.
    fn settle(&self, moments: Vec<Self::Moments>) -> Self::Statistics;

    /// The sum of all layers' distances, a scalar.
    fn distance(&self, statistics: &Self::Statistics, norms: &[&Self::Norm]) -> Tensor;

    /// The gradient of `by` times that sum, for each layer in module order.
    fn pulls(
        &self,
        statistics: &Self::Statistics,
        norms: &[&Self::Norm],
        by: f64,
    ) -> Vec<Self::Pull>;
}
