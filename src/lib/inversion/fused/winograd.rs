//! Computes 3×3 convolutions of stride 1 and padding 1 by Winograd's minimal filtering F(2×2, 3×3)
//! (Lavin and Gray 2016, arXiv:1509.09308, section 4.1): 16 products for 2×2 outputs instead of 36.
//! Called by `filter`.
//!
//! With d a 4×4 tile of the input, g a 3×3 filter and ⊙ the product summed over input channels,
//!
//! y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A,
//!
//! Bᵀ = [1 0 −1 0; 0 1 1 0; 0 −1 1 0; 0 1 0 −1], G = [1 0 0; ½ ½ ½; ½ −½ ½; 0 0 1], Aᵀ = [1 1 1 0;
//! 0 1 −1 −1].
//!
//! Over all tiles and channels, each of the 16 positions is a matrix product
//! `[tiles,inputs]`·`[inputs,outputs]`. The weights of a frozen network are transformed once. All
//! factors are 0, ±1 and ½, so the rounding is that of a sum in another order.
//!
//! **Transposed convolution.** The gradient with respect to the input is a convolution with the
//! filter turned by 180° and channels exchanged. Turning g exchanges the first and the last entry
//! of G·g, so the same weights are used, with the positions 0 and 3 exchanged in rows and columns
//! and each of the 16 matrices transposed.

use super::ffi;
use super::kernels::{LANES, floats, usable};
use tch::{Kind, Tensor};

/// Number of values of a part of the batch that the transforms write at a time: as many as the
/// caches of two AVX-512 cores hold.
const PART: i64 = 1 << 19;

/// Holds transformed weights.
#[derive(Debug)]
pub struct Winograd {
    /// The weights [16,inputs,outputs].
    weight: Tensor,
}

impl Winograd {
    /// Transforms `weight` `[O,I,3,3]`; I and O are multiples of 16.
    pub fn of(weight: &Tensor) -> Self {
        let g = Tensor::from_slice2(&[
            [1f32, 0.0, 0.0],
            [0.5, 0.5, 0.5],
            [0.5, -0.5, 0.5],
            [0.0, 0.0, 1.0],
        ]);
        let [outputs, inputs] = [weight.size()[0], weight.size()[1]];
        // G·g·Gᵀ of all filters at once: (G⊗G)·vec(g).
        let filters = weight.permute([2, 3, 1, 0]).reshape([9, inputs * outputs]);
        let weight = g.kron(&g).mm(&filters).view([16, inputs, outputs]);
        Self { weight }
    }

    /// Convolves `input` `[N,H,W,I]` to `[N,H,W,O]`.
    pub fn convolve(&self, input: &Tensor) -> Tensor {
        by_parts(input, &self.weight, false)
    }

    /// Computes the transposed convolution of `gradient` `[N,H,W,O]`, `[N,H,W,I]`.
    pub fn convolve_back(&self, gradient: &Tensor) -> Tensor {
        by_parts(gradient, &self.weight.transpose(1, 2), true)
    }
}

/// Convolves a few images at a time, so that what the transforms write stays in the caches.
fn by_parts(input: &Tensor, weight: &Tensor, flipped: bool) -> Tensor {
    let size = input.size();
    let [images, height, width, inputs] = [size[0], size[1], size[2], size[3]];
    let outputs = weight.size()[2];
    let tiles = ((height + 1) / 2) * ((width + 1) / 2);
    let output = Tensor::empty(
        [images, height, width, outputs],
        (Kind::Float, input.device()),
    );
    let at_once = (PART / (16 * tiles * inputs.max(outputs))).clamp(1, images.max(1));
    let mut from = 0;
    while from < images {
        let count = at_once.min(images - from);
        let (part, into) = (input.narrow(0, from, count), output.narrow(0, from, count));
        let transformed = Tensor::empty([16, count * tiles, inputs], (Kind::Float, input.device()));
        assert!(usable(&[&part]) && inputs % LANES == 0 && outputs % LANES == 0);
        // SAFETY: dense f32 tensors on the CPU with as many values as the functions take from these
        // sizes.
        unsafe {
            ffi::fd_winograd_input(
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
