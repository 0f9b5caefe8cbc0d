//! Computes a convolution on the CPU, forward and backward, and converts between memory orders.
//! Called by the backends.

use super::kernels::LANES;
use super::winograd::{Tile, Winograd};
use crate::model::Conv;
use std::cell::OnceCell;
use tch::Tensor;

/// 3×3 convolutions of stride 1 with this many channels or more on both sides, over planes of at
/// least this height and width, are computed by Winograd's products with tiles of 4×4 outputs: 1.1
/// times as fast as libtorch's with 32 channels, 1.7 times with 64 over 32×32 pixels, 2.6 times
/// with 256 over 8×8 (two AVX-512 cores).
const LARGE_TILES: (i64, i64) = (32, 8);

/// The same for tiles of 2×2 outputs, over smaller planes: 3 times as fast with 512 channels over
/// 4×4.
const SMALL_TILES: i64 = 64;

/// Other convolutions with this many output channels or more, over planes of at most this many
/// pixels, are computed channels first: oneDNN then uses its own blocked order, and is 1.3 times as
/// fast on two AVX-512 cores (512 channels over 4×4, batches of 32 to 256) in spite of the
/// reordering; for larger planes or fewer channels it is slower. Transposed convolutions only at
/// stride 1.
const BLOCKED_CHANNELS: i64 = 256;
const BLOCKED_PLANE: i64 = 16;

/// Holds the weights of a convolution without bias.
#[derive(Debug)]
pub struct Filter {
    /// The model's own weights [O,I,k,k], in channels-last order.
    pub weight: Tensor,
    /// The same in channels-first order, made at first use.
    weight_first: OnceCell<Tensor>,
    /// The same transformed for each kind of tile, made at first use.
    winograd: [OnceCell<Winograd>; 2],
    stride: i64,
    padding: i64,
}

impl Filter {
    /// Returns the weights of a layer, which are shared with it.
    pub fn of(layer: &Conv) -> Self {
        Self {
            weight: layer.weight.detach(),
            weight_first: OnceCell::new(),
            winograd: Default::default(),
            stride: layer.window.stride,
            padding: layer.window.padding,
        }
    }

    /// Convolves `input` [N,H,W,I] to [N,H',W',O].
    pub fn convolve(&self, input: &Tensor) -> Tensor {
        if let Some(winograd) = self.winograd(plane(input)) {
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

    /// Returns the gradient with respect to an input of `to` = (height, width) from that with
    /// respect to the output, by the transposed convolution.
    pub fn convolve_back(&self, gradient: &Tensor, to: (i64, i64)) -> Tensor {
        if let Some(winograd) = self.winograd(to) {
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

    /// Returns the transformed weights for a plane (height, width), if Winograd's products apply
    /// and are faster.
    fn winograd(&self, (height, width): (i64, i64)) -> Option<&Winograd> {
        let size = self.weight.size();
        let fits = size[2..] == [3, 3] && (self.stride, self.padding) == (1, 1);
        let channels = size[0].min(size[1]);
        if !fits || size[..2].iter().any(|channels| channels % LANES != 0) {
            return None;
        }
        let (least, side) = LARGE_TILES;
        let (tile, made) = match height.min(width) >= side {
            true if channels >= least => (Tile::Four, &self.winograd[1]),
            false if channels >= SMALL_TILES => (Tile::Two, &self.winograd[0]),
            _ => return None,
        };
        Some(made.get_or_init(|| Winograd::of(&self.weight, tile)))
    }

    /// Returns the weights in channels-first order.
    fn weight_first(&self) -> &Tensor {
        self.weight_first.get_or_init(|| self.weight.contiguous())
    }
}

/// Returns how many rows and columns of an input of `to` = (height, width) a convolution of this
/// window (kernel, stride, padding) left out: what the transposed convolution of `gradient`
/// [N,O,H',W'] has to add.
pub fn output_padding(gradient: &Tensor, to: (i64, i64), window: [i64; 3]) -> [i64; 2] {
    let [kernel, stride, padding] = window;
    let rest = |input: i64, output: i64| input - ((output - 1) * stride - 2 * padding + kernel);
    let size = gradient.size();
    [rest(to.0, size[2]), rest(to.1, size[3])]
}

/// Returns height and width of [N,H,W,C].
pub fn plane(nhwc: &Tensor) -> (i64, i64) {
    let size = nhwc.size();
    (size[1], size[2])
}

/// Views [N,H,W,C] as [N,C,H,W].
pub fn first(nhwc: &Tensor) -> Tensor {
    nhwc.permute([0, 3, 1, 2])
}

/// Returns [N,C,H,W] as dense [N,H,W,C], copying only if the memory is in another order.
pub fn last(nchw: &Tensor) -> Tensor {
    nchw.permute([0, 2, 3, 1]).contiguous()
}
