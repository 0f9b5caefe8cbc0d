//! Defines what a backend of the fused engine has to compute: convolutions and the layers between
//! them. [`super::net`] calls it.

use super::kernels::{Branch, Shortcut};
use crate::model::{BatchNorm, Conv};
use tch::Tensor;

/// Holds what a unit's backward pass needs of its forward pass.
#[derive(Debug)]
pub struct Saved {
    /// The batch-norm input if statistics are observed, else the ReLU's output.
    pub activation: Tensor,
    /// The ReLU's output, if the backend's backward pass needs it besides.
    pub mask: Option<Tensor>,
}

/// Computes with a frozen network. Activations are dense [N,H,W,C] in a type of the backend's
/// choice; everything else is float32.
pub trait Backend {
    /// Holds the weights of a convolution.
    type Filter;
    /// Holds a frozen batch norm.
    type Norm;
    /// Holds the mean and variance of a batch-norm input, or sums they follow from.
    type Moments;
    /// Holds the statistics of all layers, in comparison with the running ones.
    type Statistics;
    /// Holds the gradient of a layer's distance with respect to its input.
    type DistanceGradient;

    /// Copies the weights of a layer; `stem` is `true` for the layer whose input are the images.
    fn filter(&self, layer: &Conv, stem: bool) -> Self::Filter;

    /// Copies the constants of a layer.
    fn norm(&self, layer: &BatchNorm) -> Self::Norm;

    /// Converts images f32 [N,H,W,C] to the input of the stem.
    fn stem_input(&self, images: &Tensor) -> Tensor;

    /// Convolves `input` [N,H,W,I] to [N,H',W',O].
    fn convolve(&self, filter: &Self::Filter, input: &Tensor) -> Tensor;

    /// Returns the gradient with respect to an input of `to` = (height, width) from that with
    /// respect to the output.
    fn convolve_back(&self, filter: &Self::Filter, gradient: &Tensor, to: (i64, i64)) -> Tensor;

    /// Returns the gradient f32 [N,H,W,C] with respect to the images from that with respect to the
    /// stem's output.
    fn image_gradient(&self, stem: &Self::Filter, gradient: &Tensor) -> Tensor;

    /// Returns relu(norm(`input`) + shortcut), and what the backward pass needs. If there are
    /// `moments`, those of `input` and of a projection shortcut are appended to them.
    fn forward(
        &self,
        input: Tensor,
        norm: &Self::Norm,
        shortcut: Shortcut<Self::Norm>,
        moments: Option<&mut Vec<Self::Moments>>,
    ) -> (Tensor, Saved);

    /// Returns the gradient with respect to x from `gradient` (+ `other`) with respect to
    /// relu(norm(x)), plus that of the distance.
    fn backward(
        &self,
        saved: &Saved,
        norm: &Self::Norm,
        distance_gradient: Option<&Self::DistanceGradient>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> Tensor;

    /// Passes `gradient` (+ `other`) with respect to a block's `output` back through its last ReLU
    /// and norms. Returns the gradients with respect to the body's last batch-norm input and with
    /// respect to the shortcut (its batch-norm input, or the block's input).
    fn branch(
        &self,
        output: &Tensor,
        body: &Branch<Self::Norm, Self::DistanceGradient>,
        shortcut: Option<&Branch<Self::Norm, Self::DistanceGradient>>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> (Tensor, Tensor);

    /// Returns the mean over height and width of [N,H,W,C], f32 [N,C].
    fn pool(&self, hidden: &Tensor) -> Tensor;

    /// Returns the gradient with respect to activations of `size` = [N,H,W,C] from that with
    /// respect to their mean over height and width, f32 [N,C].
    fn unpool(&self, gradient: &Tensor, size: &[i64]) -> Tensor;

    /// Compares the moments of all layers, in module order, with the running statistics.
    fn statistics(&self, moments: Vec<Self::Moments>) -> Self::Statistics;

    /// Returns the sum of all layers' distances, a scalar.
    fn distance(&self, statistics: &Self::Statistics, norms: &[&Self::Norm]) -> Tensor;

    /// Returns the gradient of `by` times that sum, for each layer in module order.
    fn distance_gradients(
        &self,
        statistics: &Self::Statistics,
        norms: &[&Self::Norm],
        by: f64,
    ) -> Vec<Self::DistanceGradient>;
}
