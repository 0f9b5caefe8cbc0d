//! A frozen network by libtorch's operations: any device, float32 or bfloat16. On CUDA every
//! operation is one kernel, and nothing waits for the device.
//!
//! Activations, their gradients and the convolutions' weights are in the precision's type, in
//! channels-last order, for which CUDA has tensor cores. Statistics, and what follows from them,
//! are float32: [`super::statistics`].
//!
//! Three functions carry what lies between two convolutions: [`moments`], [`affine`] and [`join`].
//! CUDA has an operation for each that reads bfloat16 and float32 side by side; on the CPU, where
//! two of them do not exist, the same functions are written out.

use super::backend::{Backend, Seen};
use super::filter::{first, last, output_padding};
use super::kernels::{Branch, Side};
use super::statistics::{Moments, Pull, Running, Statistics};
use crate::model::{BatchNorm, Conv, Precision};
use tch::{Device, Kind, Tensor};

/// The stem's input channels are padded with zeros to a multiple of so many: the 16 bytes that a
/// tensor core's operand begins with.
const ALIGNED: i64 = 8;

/// libtorch's operations in a precision.
#[derive(Debug)]
pub struct Operations {
    kind: Kind,
    running: Running,
}

/// A convolution's weights [O,I,k,k] in channels-last order.
#[derive(Debug)]
pub struct Filter {
    weight: Tensor,
    /// Input channels, without those that only pad.
    inputs: i64,
    stride: i64,
    padding: i64,
}

/// A frozen batch norm, f32 [C] each: y = γ·(x − mean)·invstd + β.
#[derive(Debug)]
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    invstd: Tensor,
    /// a = γ·invstd, the derivative.
    scale: Tensor,
    /// a, kept away from zero: [`join`] divides by it.
    divisor: Tensor,
    zero: Tensor,
    one: Tensor,
}

/// The least |a| that is divided by; a channel whose scale is smaller takes it instead. Its
/// gradient, at most 1e-12 of what arrives, is then lost in the rounding of any other.
const SMALLEST: f64 = 1e-12;

impl Norm {
    /// The numbers of `layer` as they are now.
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
    /// For a network whose batch norms are `layers`, in module order.
    pub fn new(layers: &[&BatchNorm], precision: Precision) -> Self {
        let divisors: Vec<Tensor> = layers.iter().map(|layer| Norm::of(layer).divisor).collect();
        Self {
            kind: precision.kind(),
            running: Running::new(layers, &divisors),
        }
    }

    /// Through a norm whose ReLU's gradient is `masked`.
    fn through(&self, masked: &Tensor, branch: &Branch<Norm, Pull>) -> Tensor {
        match &branch.pull {
            Some(pull) => join(masked, branch.input, branch.norm, pull),
            None => scaled(masked, branch.norm),
        }
    }
}

impl Backend for Operations {
    type Filter = Filter;
    type Norm = Norm;
    type Moments = Moments;
    type Statistics = Statistics;
    type Pull = Pull;

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

    fn enter(&self, images: &Tensor) -> Tensor {
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

    fn leave(&self, stem: &Filter, gradient: &Tensor) -> Tensor {
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
        side: Side<Norm>,
        observed: Option<&mut Vec<Moments>>,
    ) -> (Tensor, Seen) {
        let mut output = affine(&input, norm);
        let _ = match &side {
            Side::Nothing => output.shallow_clone(),
            Side::Identity(side) => output.g_add_(side),
            Side::Normed(side, norm) => output.g_add_(&affine(side, norm)),
        };
        let output = output.relu_();
        let Some(observed) = observed else {
            let seen = Seen {
                kept: output.shallow_clone(),
                mask: None,
            };
            return (output, seen);
        };
        observed.push(moments(&input));
        if let Side::Normed(side, _) = side {
            observed.push(moments(side));
        }
        let seen = Seen {
            kept: input,
            mask: Some(output.shallow_clone()),
        };
        (output, seen)
    }

    fn backward(
        &self,
        seen: &Seen,
        norm: &Norm,
        pull: Option<&Pull>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> Tensor {
        let mask = seen.mask.as_ref().unwrap_or(&seen.kept);
        let masked = masked(gradient, other, mask);
        match pull {
            Some(pull) => join(&masked, &seen.kept, norm, pull),
            None => scaled(&masked, norm),
        }
    }

    fn branch(
        &self,
        output: &Tensor,
        body: &Branch<Norm, Pull>,
        side: Option<&Branch<Norm, Pull>>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let masked = masked(gradient, other, output);
        let down = self.through(&masked, body);
        let sideways = match side {
            Some(side) => self.through(&masked, side),
            None => masked,
        };
        (down, sideways)
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

    fn settle(&self, moments: Vec<Moments>) -> Statistics {
        self.running.settle(&moments)
    }

    fn distance(&self, statistics: &Statistics, _: &[&Norm]) -> Tensor {
        statistics.distance()
    }

    fn pulls(&self, statistics: &Statistics, _: &[&Norm], by: f64) -> Vec<Pull> {
        self.running.pulls(statistics, by)
    }
}

/// (`gradient` + `other`) where a ReLU's `output` is positive, else 0.
fn masked(mut gradient: Tensor, other: Option<&Tensor>, output: &Tensor) -> Tensor {
    let sum = match other {
        Some(other) => gradient.g_add_(other),
        None => gradient,
    };
    output.threshold_backward(&sum, 0)
}

/// [N,H,W,C] as [N·H·W,C].
fn rows(tensor: &Tensor) -> Tensor {
    tensor.view([-1, tensor.size()[3]])
}

/// Mean and biased variance of `x` [N,H,W,C] over its rows, f32 [C] each.
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

/// γ·(x − mean)·invstd + β in the type of `x` [N,H,W,C], rounded once.
fn affine(x: &Tensor, norm: &Norm) -> Tensor {
    let (weight, bias) = (&norm.weight, &norm.bias);
    transformed(x, weight, bias, &norm.mean, &norm.invstd)
}

/// a·`gradient` in its type, rounded once.
fn scaled(gradient: &Tensor, norm: &Norm) -> Tensor {
    transformed(gradient, &norm.scale, &norm.zero, &norm.zero, &norm.one)
}

/// weight·(x − mean)·invstd + bias, with f32 [C] constants and `x` [N,H,W,C] in another type.
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

/// a·`gradient` + offset + slope·`x` in the type of `x`, rounded once, where the last two terms are
/// the gradient of the layer's distance.
///
/// The operation is the backward pass of a batch norm in training,
///
/// (g − d/n − (x − m)·i²·e/n)·w·i
///
/// for sums d and e over n rows, mean m, inverse deviation i and weight w. With i = n = 1, w = a, m
/// the batch's mean, d = −(offset + slope·m)/a and e = −slope/a it is the sum that is wanted, and
/// the mean, which offset and slope·x hold with opposite signs, cancels before it is multiplied.
fn join(gradient: &Tensor, x: &Tensor, norm: &Norm, pull: &Pull) -> Tensor {
    let Pull { mean, d, e, count } = pull;
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

/// The norms of the four differences of images f32 [N,H,W,C] (right, down, left-down, right-down)
/// and of the images themselves, f32 [5], and the gradient of their sum weighted by `scales` f32
/// [5].
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
