//! A convolution on the CPU, forward and backward, and the orders of memory it works in.

use super::kernels::LANES;
use super::winograd::Winograd;
use crate::model::Conv;
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

/// The weights of a convolution without bias.
#[derive(Debug)]
pub struct Filter {
    /// [O,I,k,k], the model's own, which is in channels-last order.
    pub weight: Tensor,
    /// The same in channels-first order, and transformed; each made when first needed.
    weight_first: OnceCell<Tensor>,
    winograd: OnceCell<Winograd>,
    stride: i64,
    padding: i64,
}

impl Filter {
    /// The layer as it is now; the weights are shared with it.
    pub fn of(layer: &Conv) -> Self {
        Self {
            weight: layer.weight.detach(),
            weight_first: OnceCell::new(),
            winograd: OnceCell::new(),
            stride: layer.window.stride,
            padding: layer.window.padding,
        }
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
        let rest = output_padding(&gradient, to, [kernel, self.stride, self.padding]);
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

/// Rows and columns of an input of `to` = (height, width) that a convolution of this window
/// (kernel, stride, padding) left out: what the transposed convolution of `gradient` [N,O,H',W']
/// has to add.
pub fn output_padding(gradient: &Tensor, to: (i64, i64), window: [i64; 3]) -> [i64; 2] {
    let [kernel, stride, padding] = window;
    let rest = |input: i64, output: i64| input - ((output - 1) * stride - 2 * padding + kernel);
    let size = gradient.size();
    [rest(to.0, size[2]), rest(to.1, size[3])]
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
