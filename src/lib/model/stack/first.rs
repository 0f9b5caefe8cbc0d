//! Defines the first convolution of a larger stack, with its pooling and ReLU, as it is at one
//! time, that `first.cpp` computes on the CPU, forward and backward. Called by `frozen`.
//!
//! Such a layer has few input channels, and its output before pooling is the largest of the
//! network: libtorch spends on CNN-5's, which has a tenth of the network's products, more than
//! a third of a training step, nearly all of it on writing and reading maps. Here they stay in
//! registers.

use super::StackLayer;
use super::ffi;
use crate::runtime::memory::floats;
use tch::{Device, Kind, Tensor};

/// Outputs of a vector.
const LANES: i64 = 16;
/// Outputs that are computed together, of which there is a whole number.
const PAIR: i64 = 2 * LANES;
/// Outputs whose choices are in one vector of integers.
const BLOCK: i64 = 4 * LANES;
/// Values of a kernel, of all its input channels, up to which libtorch is slower.
const LARGEST: i64 = 75;
/// Values of an image with its padding up to which the gradients of sixteen outputs with respect to
/// it, 4 MiB, stay in the caches.
const LARGEST_IMAGE: i64 = 1 << 16;

/// Holds a copy of the layer.
#[derive(Debug)]
pub struct FirstLayer {
    /// Weights [kernel·kernel·inputs,outputs].
    weight: Tensor,
    bias: Tensor,
    inputs: i64,
    /// Height and width of an image.
    size: i64,
    kernel: i64,
    padding: i64,
    pool: bool,
}

/// Holds what the backward pass of a forward pass needs.
#[derive(Debug)]
pub struct FirstTape {
    /// The images [N,H,W,I] with their padding.
    images: Tensor,
    /// Which pixel of a window each value is of.
    choices: Vec<i32>,
}

impl FirstLayer {
    /// Copies `layer`; returns `None` if libtorch computes it faster.
    pub fn of(layer: &StackLayer) -> Option<Self> {
        let weight = layer.weight.detach();
        let [outputs, inputs, kernel] = [weight.size()[0], weight.size()[1], weight.size()[2]];
        let fits = layer.pixels && layer.relu && outputs % PAIR == 0;
        if !fits || inputs * kernel * kernel > LARGEST {
            return None;
        }
        let weight = weight.permute([2, 3, 1, 0]).contiguous();
        let new = Self {
            weight: weight.view([-1, outputs]),
            bias: layer.bias.detach().copy(),
            inputs,
            size: layer.size,
            kernel,
            padding: layer.padding,
            pool: layer.pool,
        };
        let edge = new.padded_side();
        let fits = new.side() > 0 && inputs * edge * edge <= LARGEST_IMAGE;
        fits.then_some(new)
    }

    /// Returns the maps f32 `[N,O,h,w]` of `images` f32 `[N,I,H,W]` after pooling and ReLU, in
    /// channels-last order, without a graph.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        self.maps(&self.padded(images), None)
    }

    /// Returns the same, and what the gradients need.
    pub fn forward(&self, images: &Tensor) -> (Tensor, FirstTape) {
        let images = self.padded(images);
        let mut choices = vec![0; self.choices(images.size()[0])];
        let maps = self.maps(&images, Some(&mut choices));
        (maps, FirstTape { images, choices })
    }

    /// Returns the gradient f32 `[N,I,H,W]` with respect to the images, from that with respect to
    /// the maps.
    pub fn image_gradient(&self, tape: &FirstTape, maps: &Tensor) -> Tensor {
        let gradient = self.gradient(maps, tape);
        let images = tape.images.empty_like();
        // SAFETY: dense f32 tensors on the CPU of the sizes that the layer has; the choices are
        // those of a forward pass over as many images.
        unsafe {
            ffi::fd_first_to_images(
                &self.described(),
                images.size()[0],
                floats(&gradient),
                tape.choices.as_ptr(),
                floats(&images),
            );
        }
        let inside = |images: Tensor, dim| images.narrow(dim, self.padding, self.size);
        inside(inside(images, 1), 2).permute([0, 3, 1, 2])
    }

    /// Returns the gradients with respect to the weight `[O,I,k,k]` and the bias `[O]`, from that
    /// with respect to the maps.
    pub fn weight_gradients(&self, tape: &FirstTape, maps: &Tensor) -> Vec<Tensor> {
        let gradient = self.gradient(maps, tape);
        let (taps, outputs) = (self.weight.size()[0], self.outputs());
        let both = Tensor::empty([taps + 1, outputs], (Kind::Float, Device::Cpu));
        // SAFETY: as above; `both` has a value for each weight and bias.
        unsafe {
            ffi::fd_first_to_weights(
                &self.described(),
                tape.images.size()[0],
                floats(&tape.images),
                floats(&gradient),
                tape.choices.as_ptr(),
                floats(&both),
            );
        }
        let shape = [self.kernel, self.kernel, self.inputs, outputs];
        let weight = both.narrow(0, 0, taps).view(shape);
        vec![weight.permute([3, 2, 0, 1]), both.get(taps)]
    }

    fn outputs(&self) -> i64 {
        self.weight.size()[1]
    }

    /// Returns the height and width of an image with its padding.
    fn padded_side(&self) -> i64 {
        self.size + 2 * self.padding
    }

    /// Returns the number of integers that hold the choices for so many images.
    fn choices(&self, images: i64) -> usize {
        let blocks = (self.outputs() + BLOCK - 1) / BLOCK;
        (images * self.side() * self.side() * blocks * LANES) as usize
    }

    /// Returns the height and width of the maps.
    fn side(&self) -> i64 {
        let side = self.padded_side() - self.kernel + 1;
        if self.pool { side / 2 } else { side }
    }

    /// Returns dense images [N,H,W,I] with their padding.
    fn padded(&self, images: &Tensor) -> Tensor {
        assert_eq!(images.size()[1..], [self.inputs, self.size, self.size]);
        let images = images.detach().to_kind(Kind::Float).permute([0, 2, 3, 1]);
        let edge = self.padding;
        match edge {
            0 => images.contiguous(),
            _ => images
                .constant_pad_nd([0, 0, edge, edge, edge, edge])
                .contiguous(),
        }
    }

    /// Returns the gradient [N,O,h,w] in the maps of a forward pass as [N,h,w,O].
    fn gradient(&self, maps: &Tensor, tape: &FirstTape) -> Tensor {
        let (count, side, edge) = (tape.images.size()[0], self.side(), self.padded_side());
        assert_eq!(tape.images.size(), [count, edge, edge, self.inputs]);
        assert_eq!(tape.choices.len(), self.choices(count));
        assert_eq!(maps.size(), [count, self.outputs(), side, side]);
        maps.detach().permute([0, 2, 3, 1]).contiguous()
    }

    fn maps(&self, images: &Tensor, choices: Option<&mut Vec<i32>>) -> Tensor {
        let (count, side) = (images.size()[0], self.side());
        let shape = [count, side, side, self.outputs()];
        let maps = Tensor::empty(shape, (Kind::Float, Device::Cpu));
        let choices = choices.map_or(std::ptr::null_mut(), |choices| choices.as_mut_ptr());
        // SAFETY: as above; the choices are as many as `forward` makes.
        unsafe {
            ffi::fd_first_forward(
                &self.described(),
                count,
                floats(images),
                floats(&maps),
                choices,
            );
        }
        maps.permute([0, 3, 1, 2])
    }

    fn described(&self) -> ffi::First {
        ffi::First {
            inputs: self.inputs,
            height: self.padded_side(),
            width: self.padded_side(),
            outputs: self.outputs(),
            kernel: self.kernel,
            pool: self.pool.into(),
            weight: floats(&self.weight),
            bias: floats(&self.bias),
        }
    }
}
