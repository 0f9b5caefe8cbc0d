//! Computes a frozen network with libtorch's operations, on any device, in float32 or bfloat16. On
//! CUDA every operation is one kernel, and nothing waits for the device. Called by `net`.
//!
//! Activations, their gradients and the convolutions' weights are in the precision's type, in
//! channels-last order, for which CUDA has tensor cores. Statistics, and what follows from them,
//! are float32: `statistics`.
//!
//! The functions [`moments`], `affine` and `norm_gradient` compute what is between two
//! convolutions. For each, CUDA has an operation that reads bfloat16 and float32 tensors together;
//! on the CPU, where two of these do not exist, the same functions are written out.

use super::backend::{Backend, Saved};
use super::filter::{first, last, output_padding};
use super::kernels::{Branch, Shortcut};
use super::statistics::{DistanceGradient, Moments, Running, Statistics};
use crate::model::{BatchNorm, Conv, Precision};
use tch::{Device, Kind, Tensor};

/// The stem's input channels are padded with zeros to a multiple of this number: the alignment of
/// tensor cores, 16 bytes.
const ALIGNED: i64 = 8;

/// Computes with libtorch's operations in a precision.
#[derive(Debug)]
pub struct Operations {
    kind: Kind,
    running: Running,
}

/// Holds a convolution's weights `[O,I,k,k]` in channels-last order.
#[derive(Debug)]
pub struct Filter {
    weight: Tensor,
    /// Number of input channels, without those of the padding.
    inputs: i64,
    stride: i64,
    padding: i64,
}

/// Holds a frozen batch norm y = γ·(x − mean)·invstd + β, f32 `[C]` each.
#[derive(Debug)]
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    invstd: Tensor,
    /// The derivative a = γ·invstd.
    scale: Tensor,
    /// The same, but nowhere near zero, because `norm_gradient` divides by it.
    divisor: Tensor,
    zero: Tensor,
    one: Tensor,
}

/// The least |a| that is divided by; a channel whose scale is smaller has this one instead. Its
/// gradient, at most 1e-12 of the upstream gradient, is then lost in rounding.
const SMALLEST: f64 = 1e-12;

impl Norm {
    /// Computes the constants of `layer` in f64 and rounds them to f32 once.
    fn of(layer: &BatchNorm) -> Self {
        let double = |tensor: &Tensor| tensor.detach().to_kind(Kind::Double);
        let invstd = (double(&layer.running_var) + BatchNorm::EPS).rsqrt();
        let scale = double(&layer.weight) * &invstd;
        let large = scale.abs().ge(SMALLEST);
        let sign = scale.lt(0.0).to_kind(Kind::Double) * -2.0 + 1.0;
        let divisor = scale.where_self(&large, &(sign * SMALLEST));
        let own = |tensor: &Tensor| tensor.detach().to_kind(Kind::Float).copy();
        Self {
            weight: own(&layer.weight),
            bias: own(&layer.bias),
            mean: own(&layer.running_mean),
            zero: own(&layer.running_mean).zeros_like(),
            one: own(&layer.running_mean).ones_like(),
            invstd: own(&invstd),
            scale: own(&scale),
            divisor: own(&divisor),
        }
    }
}

impl Operations {
    /// Returns the backend of a network whose batch norms are `layers`, in module order.
    pub fn new(layers: &[&BatchNorm], precision: Precision) -> Self {
        let divisors: Vec<Tensor> = layers.iter().map(|layer| Norm::of(layer).divisor).collect();
        Self {
            kind: precision.kind(),
            running: Running::new(layers, &divisors),
        }
    }

    /// Passes the gradient `masked`, with respect to a norm's output, back to the norm's input.
    fn branch_gradient(&self, masked: &Tensor, branch: &Branch<Norm, DistanceGradient>) -> Tensor {
        match &branch.distance_gradient {
            Some(distance_gradient) => {
                norm_gradient(masked, branch.input, branch.norm, distance_gradient)
            }
            None => scaled(masked, branch.norm),
        }
    }
}

impl Backend for Operations {
    type Filter = Filter;
    type Norm = Norm;
    type Moments = Moments;
    type Statistics = Statistics;
    type DistanceGradient = DistanceGradient;

    fn filter(&self, layer: &Conv, stem: bool) -> Filter {
        let inputs = layer.weight.size()[1];
        let surplus = match stem {
            true => (ALIGNED - inputs % ALIGNED) % ALIGNED,
            false => 0,
        };
        let ordered = last(&layer.weight.detach()).constant_pad_nd([0, surplus]);
        Filter {
            weight: first(&ordered.to_kind(self.kind).copy()),
            inputs,
            stride: layer.window.stride,
            padding: layer.window.padding,
        }
    }

    fn norm(&self, layer: &BatchNorm) -> Norm {
        Norm::of(layer)
    }

    fn stem_input(&self, images: &Tensor) -> Tensor {
        let channels = images.size()[3];
        let surplus = (ALIGNED - channels % ALIGNED) % ALIGNED;
        images.constant_pad_nd([0, surplus]).to_kind(self.kind)
    }

    fn convolve(&self, filter: &Filter, input: &Tensor) -> Tensor {
        let (stride, padding) = (filter.stride, filter.padding);
        last(&first(input).conv2d(&filter.weight, None::<&Tensor>, stride, padding, 1, 1))
    }

    fn convolve_back(&self, filter: &Filter, gradient: &Tensor, to: (i64, i64)) -> Tensor {
        let gradient = first(gradient);
        let window = [filter.weight.size()[2], filter.stride, filter.padding];
        let rest = output_padding(&gradient, to, window);
        let [_, stride, padding] = window;
        last(&gradient.conv_transpose2d(
            &filter.weight,
            None::<&Tensor>,
            [stride, stride],
            [padding, padding],
            rest,
            1,
            [1, 1],
        ))
    }

    fn image_gradient(&self, stem: &Filter, gradient: &Tensor) -> Tensor {
        let size = gradient.size();
        let padded = self.convolve_back(stem, gradient, (size[1], size[2]));
        padded
            .narrow(3, 0, stem.inputs)
            .to_kind(Kind::Float)
            .contiguous()
    }

    fn forward(
        &self,
        input: Tensor,
        norm: &Norm,
        shortcut: Shortcut<Norm>,
        observed: Option<&mut Vec<Moments>>,
    ) -> (Tensor, Saved) {
        let mut output = affine(&input, norm);
        let _ = match &shortcut {
            Shortcut::None => output.shallow_clone(),
            Shortcut::Identity(shortcut) => output.g_add_(shortcut),
            Shortcut::Projection(shortcut, norm) => output.g_add_(&affine(shortcut, norm)),
        };
        let output = output.relu_();
        let Some(observed) = observed else {
            let saved = Saved {
                activation: output.shallow_clone(),
                mask: None,
            };
            return (output, saved);
        };
        observed.push(moments(&input));
        if let Shortcut::Projection(shortcut, _) = shortcut {
            observed.push(moments(shortcut));
        }
        let saved = Saved {
            activation: input,
            mask: Some(output.shallow_clone()),
        };
        (output, saved)
    }

    fn backward(
        &self,
        saved: &Saved,
        norm: &Norm,
        distance_gradient: Option<&DistanceGradient>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> Tensor {
        let mask = saved.mask.as_ref().unwrap_or(&saved.activation);
        let masked = masked(gradient, other, mask);
        match distance_gradient {
            Some(distance_gradient) => {
                norm_gradient(&masked, &saved.activation, norm, distance_gradient)
            }
            None => scaled(&masked, norm),
        }
    }

    fn branch(
        &self,
        output: &Tensor,
        body: &Branch<Norm, DistanceGradient>,
        shortcut: Option<&Branch<Norm, DistanceGradient>>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let masked = masked(gradient, other, output);
        let down = self.branch_gradient(&masked, body);
        let to_shortcut = match shortcut {
            Some(shortcut) => self.branch_gradient(&masked, shortcut),
            None => masked,
        };
        (down, to_shortcut)
    }

    fn pool(&self, hidden: &Tensor) -> Tensor {
        hidden.mean_dim([1i64, 2].as_slice(), false, Kind::Float)
    }

    fn unpool(&self, gradient: &Tensor, size: &[i64]) -> Tensor {
        (gradient / (size[1] * size[2]) as f64)
            .to_kind(self.kind)
            .view([size[0], 1, 1, size[3]])
            .expand(size, false)
            .contiguous()
    }

    fn statistics(&self, moments: Vec<Moments>) -> Statistics {
        self.running.compare(&moments)
    }

    fn distance(&self, statistics: &Statistics, _: &[&Norm]) -> Tensor {
        statistics.distance()
    }

    fn distance_gradients(
        &self,
        statistics: &Statistics,
        _: &[&Norm],
        by: f64,
    ) -> Vec<DistanceGradient> {
        self.running.distance_gradients(statistics, by)
    }
}

/// Returns `gradient` + `other` where a ReLU's `output` is positive, and 0 elsewhere.
fn masked(mut gradient: Tensor, other: Option<&Tensor>, output: &Tensor) -> Tensor {
    let sum = match other {
        Some(other) => gradient.g_add_(other),
        None => gradient,
    };
    output.threshold_backward(&sum, 0)
}

/// Views [N,H,W,C] as [N·H·W,C].
fn rows(tensor: &Tensor) -> Tensor {
    tensor.view([-1, tensor.size()[3]])
}

/// Returns mean and biased variance of `x` `[N,H,W,C]` over its rows, f32 `[C]` each.
///
/// The operation returns the variance itself. `batch_norm_stats` returns 1/√(variance + ε), from
/// which a variance far below ε cannot be recovered.
pub fn moments(x: &Tensor) -> Moments {
    let rows = match x.device() {
        Device::Cuda(_) => rows(x),
        _ => rows(x).to_kind(Kind::Float),
    };
    let (mean, var) = rows.batch_norm_update_stats(None::<&Tensor>, None::<&Tensor>, 0.0);
    let rows = rows.size()[0];
    Moments { mean, var, rows }
}

/// Returns γ·(x − mean)·invstd + β in the type of `x` [N,H,W,C], rounded once.
fn affine(x: &Tensor, norm: &Norm) -> Tensor {
    let (weight, bias) = (&norm.weight, &norm.bias);
    transformed(x, weight, bias, &norm.mean, &norm.invstd)
}

/// Returns a·`gradient` in its type, rounded once.
fn scaled(gradient: &Tensor, norm: &Norm) -> Tensor {
    transformed(gradient, &norm.scale, &norm.zero, &norm.zero, &norm.one)
}

/// Returns weight·(x − mean)·invstd + bias with f32 [C] constants, in the type of `x` [N,H,W,C].
fn transformed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    mean: &Tensor,
    invstd: &Tensor,
) -> Tensor {
    if let Device::Cuda(_) = x.device() {
        let normed = rows(x).batch_norm_elemt(Some(weight), Some(bias), mean, invstd, 0.0);
        return normed.view_as(x);
    }
    ((x.to_kind(Kind::Float) - mean) * invstd * weight + bias).to_kind(x.kind())
}

/// Returns a·`gradient` + offset + slope·`x` in the type of `x`, rounded once, where the last two
/// terms are the gradient of the layer's distance.
///
/// The operation is the backward pass of a batch norm in training,
///
/// (g − d/n − (x − m)·i²·e/n)·w·i
///
/// for sums d and e over n rows, mean m, inverse deviation i and weight w. With i = n = 1, w = a, m
/// the batch's mean, d = −(offset + slope·m)/a and e = −slope/a it is the wanted sum, and the mean,
/// which offset and slope·x contain with opposite signs, cancels before it is multiplied.
fn norm_gradient(
    gradient: &Tensor,
    x: &Tensor,
    norm: &Norm,
    distance_gradient: &DistanceGradient,
) -> Tensor {
    let DistanceGradient { mean, d, e, count } = distance_gradient;
    if let Device::Cuda(_) = x.device() {
        let weight = Some(&norm.divisor);
        let joined = rows(x).batch_norm_backward_elemt(
            &rows(gradient),
            mean,
            &norm.one,
            weight,
            d,
            e,
            count,
        );
        return joined.view_as(x);
    }
    let centred = x.to_kind(Kind::Float) - mean;
    let sum = gradient.to_kind(Kind::Float) - d - centred * e;
    (sum * &norm.divisor).to_kind(x.kind())
}

/// Returns the norms of the four differences of images f32 `[N,H,W,C]` (right, down, left-down,
/// right-down) and of the images themselves, f32 `[5]`, and the gradient of their sum weighted by
/// `scales` f32 `[5]`.
pub fn image_terms(images: &Tensor, scales: &Tensor) -> (Tensor, Tensor) {
    let (height, width) = (images.size()[1], images.size()[2]);
    // Where a difference begins, and where the neighbour that it takes away lies.
    let corners = [
        ([0, 0], [0, 1]),
        ([0, 0], [1, 0]),
        ([0, 1], [1, 0]),
        ([0, 0], [1, 1]),
    ];
    let cut = |of: &Tensor, at: [i64; 2], size: [i64; 2]| {
        of.narrow(1, at[0], size[0]).narrow(2, at[1], size[1])
    };
    let size = |(from, to): ([i64; 2], [i64; 2])| {
        [height - from[0].max(to[0]), width - from[1].max(to[1])]
    };
    let differences = corners.map(|pair| {
        let size = size(pair);
        cut(images, pair.0, size) - cut(images, pair.1, size)
    });
    let norm = |tensor: &Tensor| tensor.norm_scalaropt_dtype(2.0, Kind::Float);
    let mut norms: Vec<Tensor> = differences.iter().map(norm).collect();
    norms.push(norm(images));
    let norms = Tensor::stack(&norms, 0);
    // The norm's subgradient at zero is zero, as in PyTorch.
    let by = (scales / &norms).where_self(&norms.gt(0.0), &norms.zeros_like());
    let gradient = images * by.get(4);
    for (index, (pair, difference)) in corners.into_iter().zip(differences).enumerate() {
        let (size, difference) = (size(pair), difference * by.get(index as i64));
        let _ = cut(&gradient, pair.0, size).g_add_(&difference);
        let _ = cut(&gradient, pair.1, size).g_sub_(&difference);
    }
    (norms, gradient)
}
