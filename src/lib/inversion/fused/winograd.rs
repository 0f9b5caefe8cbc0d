//! Computes 3×3 convolutions of stride 1 and padding 1 by Winograd's minimal filtering (Lavin and
//! Gray 2016, arXiv:1509.09308): F(2×2, 3×3) takes 16 products for 2×2 outputs instead of 36, and
//! F(4×4, 3×3) takes 36 for 4×4 instead of 144. Called by `filter`.
//!
//! With d a tile of the input, of 4×4 or 6×6 pixels, g a 3×3 filter and ⊙ the product summed over
//! input channels,
//!
//! y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A,
//!
//! where the matrices of F(2×2, 3×3) are those of the paper (section 4.1), Bᵀ = [1 0 −1 0; 0 1 1 0;
//! 0 −1 1 0; 0 1 0 −1], G = [1 0 0; ½ ½ ½; ½ −½ ½; 0 0 1], Aᵀ = [1 1 1 0; 0 1 −1 −1]: all factors
//! are 0, ±1 and ½, so the rounding is that of a sum in another order.
//!
//! Those of F(4×4, 3×3) interpolate at 0, 1, −1, ½, −2 and ∞, with two thirds of the rounding error
//! of the paper's points, 0, ±1, ±2 and ∞ (Barabasz et al. 2020, arXiv:1803.10986, compare many):
//! Bᵀ = [1 −3/2 −2 3/2 1 0; 0 −1 ½ 5/2 1 0; 0 1 −5/2 ½ 1 0; 0 −2 −1 2 1 0; 0 ½ −1 −½ 1 0; 0 1 −3/2
//! −2 3/2 1], Aᵀ = [1 1 1 1 1 0; 0 1 −1 ½ −2 0; 0 1 1 ¼ 4 0; 0 1 −1 ⅛ −8 1], and G as below.
//!
//! Over all tiles and channels, each position of a tile is a matrix product
//! `[tiles,inputs]`·`[inputs,outputs]`. The weights of a frozen network are transformed once.
//!
//! **Transposed convolution.** The gradient with respect to the input is a convolution with the
//! filter turned by 180° and channels exchanged. Turning the filter is turning the input and the
//! output: tiles are read and written with the last row and column first, and each of the matrices
//! is transposed.

use super::ffi;
use super::kernels::LANES;
use crate::runtime::memory::{floats, usable};
use tch::{Kind, Tensor};

/// Number of values of a part of the batch that the transforms write at a time: as many as the
/// caches of two AVX-512 cores hold.
const PART: i64 = 1 << 19;

/// Selects how many outputs a tile gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// F(2×2, 3×3).
    Two,
    /// F(4×4, 3×3).
    Four,
}

impl Tile {
    /// Returns the height and width of a tile's output.
    fn output(self) -> i64 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Returns the number of values of a tile.
    fn positions(self) -> i64 {
        (self.output() + 2) * (self.output() + 2)
    }

    /// Returns G, f32 [values of a row,3].
    fn filter_transform(self) -> Tensor {
        match self {
            Self::Two => Tensor::from_slice2(&[
                [1f32, 0.0, 0.0],
                [0.5, 0.5, 0.5],
                [0.5, -0.5, 0.5],
                [0.0, 0.0, 1.0],
            ]),
            Self::Four => Tensor::from_slice2(&[
                [1f32, 0.0, 0.0],
                [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0],
                [-1.0 / 3.0, 1.0 / 3.0, -1.0 / 3.0],
                [-16.0 / 15.0, -8.0 / 15.0, -4.0 / 15.0],
                [1.0 / 15.0, -2.0 / 15.0, 4.0 / 15.0],
                [0.0, 0.0, 1.0],
            ]),
        }
    }
}

/// Holds transformed weights.
#[derive(Debug)]
pub struct Winograd {
    /// The weights [positions,inputs,outputs].
    weight: Tensor,
    tile: Tile,
}

impl Winograd {
    /// Transforms `weight` `[O,I,3,3]`; I and O are multiples of 16.
    pub fn of(weight: &Tensor, tile: Tile) -> Self {
        let g = tile.filter_transform();
        let [outputs, inputs] = [weight.size()[0], weight.size()[1]];
        // G·g·Gᵀ of all filters at once: (G⊗G)·vec(g).
        let filters = weight.permute([2, 3, 1, 0]).reshape([9, inputs * outputs]);
        let weight = g
            .kron(&g)
            .mm(&filters)
            .view([tile.positions(), inputs, outputs]);
        Self { weight, tile }
    }

    /// Convolves `input` `[N,H,W,I]` to `[N,H,W,O]`.
    pub fn convolve(&self, input: &Tensor) -> Tensor {
        by_parts(input, &self.weight, self.tile, false)
    }

    /// Computes the transposed convolution of `gradient` `[N,H,W,O]`, `[N,H,W,I]`.
    pub fn convolve_back(&self, gradient: &Tensor) -> Tensor {
        by_parts(gradient, &self.weight.transpose(1, 2), self.tile, true)
    }
}

/// Convolves a few images at a time, so that what the transforms write stays in the caches.
fn by_parts(input: &Tensor, weight: &Tensor, tile: Tile, flipped: bool) -> Tensor {
    let size = input.size();
    let [images, height, width, inputs] = [size[0], size[1], size[2], size[3]];
    let outputs = weight.size()[2];
    let (side, positions) = (tile.output(), tile.positions());
    let tiles = ((height + side - 1) / side) * ((width + side - 1) / side);
    let output = Tensor::empty(
        [images, height, width, outputs],
        (Kind::Float, input.device()),
    );
    let at_once = (PART / (positions * tiles * inputs.max(outputs))).clamp(1, images.max(1));
    let mut from = 0;
    while from < images {
        let count = at_once.min(images - from);
        let (part, into) = (input.narrow(0, from, count), output.narrow(0, from, count));
        let transformed = Tensor::empty(
            [positions, count * tiles, inputs],
            (Kind::Float, input.device()),
        );
        assert!(usable(&part) && inputs % LANES == 0 && outputs % LANES == 0);
        // SAFETY: dense f32 tensors on the CPU with as many values as the functions take from these
        // sizes.
        unsafe {
            ffi::fd_winograd_input(
                side,
                count,
                height,
                width,
                inputs,
                flipped,
                floats(&part),
                floats(&transformed),
            );
        }
        let products = transformed.bmm(weight).contiguous();
        // SAFETY: as above.
        unsafe {
            ffi::fd_winograd_output(
                side,
                count,
                height,
                width,
                outputs,
                flipped,
                floats(&products),
                floats(&into),
            );
        }
        from += count;
    }
    output
}
