//! A convolution with the batch norm and the ReLU behind it, forward and backward, and the orders
//! of memory it works in.

use super::kernels::{self, LANES, Side};
use super::norm::{Moments, Norm, Pull};
use super::winograd::Winograd;
use crate::model::ConvNorm;
use std::cell::OnceCell;
use tch::Tensor;

/// 3×3 convolutions of stride 1 with this many channels or more on both sides go by Winograd's
/// products: from 1.05 times as fast with 64 channels over 32×32 pixels to 2.4 times with 512 over
/// 4×4 (two AVX-512 cores, batch 32); with fewer channels they are slower.
const WINOGRAD_CHANNELS: i64 = 64;

/// Other convolutions with this many output channels or more, over planes of this many pixels or
/// fewer, go channels first: oneDNN then takes its own blocked order, and is 1.3 times as fast on
/// two AVX-512 cores (512 channels over 4×4, batches of 32 to 256) in spite of the reordering; for
/// larger planes or fewer channels it is slower. The transposed ones only at stride 1.
const BLOCKED_CHANNELS: i64 = 256;
const BLOCKED_PLANE: i64 = 16;

/// A convolution and the batch norm behind it.
#[derive(Debug)]
pub struct Unit {
    /// [O,I,k,k], the model's own, which is in channels-last order.
    pub weight: Tensor,
    /// The same in channels-first order, and transformed; each made when first needed.
    weight_first: OnceCell<Tensor>,
    winograd: OnceCell<Winograd>,
    stride: i64,
    padding: i64,
    pub norm: Norm,
}

/// What one unit leaves for the way back: its batch-norm input with its moments where statistics
/// are observed, else its ReLU's output.
#[derive(Debug)]
pub struct Seen {
    pub kept: Tensor,
    pub moments: Option<Moments>,
}

impl Seen {
    /// The gradient of `by` times the distance of its statistics; `None` where nobody observed
    /// them.
    pub fn pull(&self, norm: &Norm, by: f64) -> Option<Pull> {
        self.moments.as_ref().map(|moments| moments.pull(norm, by))
    }
}

impl Unit {
    /// The layer as it is now; the weights are shared with it.
    pub fn of(layer: &ConvNorm) -> Self {
        Self {
            weight: layer.conv.weight.detach(),
            weight_first: OnceCell::new(),
            winograd: OnceCell::new(),
            stride: layer.conv.window.stride,
            padding: layer.conv.window.padding,
            norm: Norm::of(&layer.norm),
        }
    }

    /// ReLU, norm and convolution of `input` [N,H,W,C], and what the way back needs.
    pub fn forward(&self, input: &Tensor, side: Side, observe: bool) -> (Tensor, Seen) {
        let kept = self.convolve(input);
        let (output, moments, _) = kernels::forward(&kept, &self.norm, side, observe);
        (output, Seen { kept, moments })
    }

    /// [N,H,W,I] to [N,H',W',O].
    pub fn convolve(&self, input: &Tensor) -> Tensor {
        if let Some(winograd) = self.winograd() {
            return winograd.convolve(input);
        }
        let (input, outputs) = (first(input), self.weight.size()[0]);
        let edge = |size: i64| (size + 2 * self.padding - self.weight.size()[2]) / self.stride + 1;
        let (height, width) = (edge(input.size()[2]), edge(input.size()[3]));
        let blocked = outputs >= BLOCKED_CHANNELS && height * width <= BLOCKED_PLANE;
        let none = None::<&Tensor>;
        last(&match blocked {
            true => input.contiguous().conv2d(
                self.weight_first(),
                none,
                self.stride,
                self.padding,
                1,
                1,
            ),
            false => input.conv2d(&self.weight, none, self.stride, self.padding, 1, 1),
        })
    }

    /// Gradient with respect to an input of `to` = (height, width), from that with respect to the
    /// output: the transposed convolution.
    pub fn convolve_back(&self, gradient: &Tensor, to: (i64, i64)) -> Tensor {
        if let Some(winograd) = self.winograd() {
            return winograd.convolve_back(gradient);
        }
        let (gradient, kernel) = (first(gradient), self.weight.size()[2]);
        let rest = |input: i64, output: i64| {
            input - ((output - 1) * self.stride - 2 * self.padding + kernel)
        };
        let rest = [
            rest(to.0, gradient.size()[2]),
            rest(to.1, gradient.size()[3]),
        ];
        let blocked = self.stride == 1
            && self.weight.size()[0] >= BLOCKED_CHANNELS
            && to.0 * to.1 <= BLOCKED_PLANE;
        let ([stride, padding], none) = ([[self.stride; 2], [self.padding; 2]], None::<&Tensor>);
        last(&match blocked {
            true => gradient.contiguous().conv_transpose2d(
                self.weight_first(),
                none,
                stride,
                padding,
                rest,
                1,
                [1, 1],
            ),
            false => {
                gradient.conv_transpose2d(&self.weight, none, stride, padding, rest, 1, [1, 1])
            }
        })
    }

    /// Where it applies and pays.
    fn winograd(&self) -> Option<&Winograd> {
        let size = self.weight.size();
        let fits = size[2..] == [3, 3] && (self.stride, self.padding) == (1, 1);
        let pays = size[..2]
            .iter()
            .all(|&channels| channels >= WINOGRAD_CHANNELS && channels % LANES == 0);
        (fits && pays).then(|| self.winograd.get_or_init(|| Winograd::of(&self.weight)))
    }

    fn weight_first(&self) -> &Tensor {
        self.weight_first.get_or_init(|| self.weight.contiguous())
    }
}

/// Height and width of [N,H,W,C].
pub fn plane(nhwc: &Tensor) -> (i64, i64) {
    let size = nhwc.size();
    (size[1], size[2])
}

/// [N,H,W,C] seen as [N,C,H,W].
pub fn first(nhwc: &Tensor) -> Tensor {
    nhwc.permute([0, 3, 1, 2])
}

/// [N,C,H,W] as dense [N,H,W,C]; a copy only where the memory is in another order.
pub fn last(nchw: &Tensor) -> Tensor {
    nchw.permute([0, 2, 3, 1]).contiguous()
}
