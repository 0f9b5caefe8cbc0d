//! Defines layers of convolutions, pooling and linear layers, such as LeNet-5's, as they are at one
//! time, that `lanes.cpp` computes on the CPU, forward and backward. Called by `frozen`.
//!
//! Such layers have so few channels that libtorch's convolutions, which compute many channels at a
//! time, leave most of a core idle. Here sixteen images are computed at a time, one a lane.

use super::StackLayer;
use super::ffi::{self, Layer};
use crate::runtime::memory::floats;
use tch::{Device, Kind, Tensor};

/// Images that are computed at a time.
const LANES: i64 = 16;
/// Outputs that are summed at a time.
const BLOCK: i64 = 8;
/// Layers are computed so if the values of a layer of sixteen images take at most this much
/// memory: with more they leave the caches, and libtorch is faster.
const LARGEST: i64 = 1 << 20;

/// Holds a copy of a network's layers, or of its convolutions alone.
#[derive(Debug)]
pub struct LaneStack {
    layers: Vec<Layer>,
    /// What the layers point to.
    _weights: Vec<Vec<f32>>,
    /// Shape of an image.
    shape: [i64; 3],
    /// Values that the last layer gives for an image.
    outputs: i64,
    /// Choices of a tape for a group of sixteen images.
    kept: i64,
    /// Values of a tape for such a group.
    stored: i64,
}

/// Holds what the backward pass of a forward pass needs.
#[derive(Debug)]
pub struct LaneTape {
    /// Which values were chosen.
    kept: Vec<i32>,
    /// What each layer but the last gave, if gradients with respect to weights are wanted.
    values: Vec<f32>,
    images: i64,
}

impl LaneStack {
    /// Copies `layers` of images of `shape`; returns `None` if libtorch computes them faster.
    pub fn of(layers: &[StackLayer], shape: [i64; 3]) -> Option<Self> {
        if layers.is_empty() || layers.iter().any(|layer| !is_small(layer)) {
            return None;
        }
        let mut weights = Vec::new();
        let layers: Vec<Layer> = layers
            .iter()
            .map(|layer| packed(layer, &mut weights))
            .collect::<Option<_>>()?;
        let of_group: Vec<i64> = layers.iter().map(|layer| LANES * outputs(layer)).collect();
        let last = of_group.last().copied().unwrap_or_default();
        let kept = of_group.iter().sum();
        Some(Self {
            layers,
            _weights: weights,
            shape,
            outputs: last / LANES,
            kept,
            stored: kept - last,
        })
    }

    /// Returns what the last layer gives for `images` f32 `[N,C,H,W]`, f32 `[N,outputs]`, without a
    /// graph.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        self.last(images, None)
    }

    /// Returns the same, and what [`image_gradient`](Self::image_gradient) needs.
    pub fn forward(&self, images: &Tensor) -> (Tensor, LaneTape) {
        self.recorded(images, 0)
    }

    /// Returns the same, and what [`weight_gradients`](Self::weight_gradients) needs too.
    pub fn forward_in_training(&self, images: &Tensor) -> (Tensor, LaneTape) {
        self.recorded(images, self.stored)
    }

    /// Passes forward, keeping `stored` values for each group of sixteen images.
    fn recorded(&self, images: &Tensor, stored: i64) -> (Tensor, LaneTape) {
        let count = images.size()[0];
        let mut tape = LaneTape {
            kept: vec![0; (groups(count) * self.kept) as usize],
            values: vec![0.0; (groups(count) * stored) as usize],
            images: count,
        };
        let last = self.last(images, Some(&mut tape));
        (last, tape)
    }

    fn last(&self, images: &Tensor, tape: Option<&mut LaneTape>) -> Tensor {
        let images = images.detach().to_kind(Kind::Float).contiguous();
        let count = images.size()[0];
        assert_eq!(images.size()[1..], self.shape);
        let last = Tensor::empty([count, self.outputs], (Kind::Float, Device::Cpu));
        let (kept, values) = match tape {
            None => (std::ptr::null_mut(), std::ptr::null_mut()),
            Some(tape) if tape.values.is_empty() => (tape.kept.as_mut_ptr(), std::ptr::null_mut()),
            Some(tape) => (tape.kept.as_mut_ptr(), tape.values.as_mut_ptr()),
        };
        // SAFETY: dense f32 tensors on the CPU of these sizes; the layers point to vectors of their
        // sizes, which live as long as they do; the tape is as long as `recorded` makes it.
        unsafe {
            ffi::fd_stack_forward(
                self.layers.as_ptr(),
                self.layers.len() as i64,
                floats(&images),
                count,
                floats(&last),
                kept,
                self.kept,
                values,
                self.stored,
            );
        }
        last
    }

    /// Returns the gradient f32 `[N,C,H,W]` with respect to the images of a forward pass, from that
    /// with respect to what the last layer gave.
    pub fn image_gradient(&self, tape: &LaneTape, last: &Tensor) -> Tensor {
        let last = last.detach().contiguous();
        assert_eq!(last.size(), [tape.images, self.outputs]);
        assert_eq!(tape.kept.len() as i64, groups(tape.images) * self.kept);
        let [channels, height, width] = self.shape;
        let shape = [tape.images, channels, height, width];
        let images = Tensor::empty(shape, (Kind::Float, Device::Cpu));
        // SAFETY: as above; the tape is that of a forward pass of as many images.
        unsafe {
            ffi::fd_stack_to_images(
                self.layers.as_ptr(),
                self.layers.len() as i64,
                floats(&last),
                tape.images,
                tape.kept.as_ptr(),
                self.kept,
                floats(&images),
            );
        }
        images
    }

    /// Returns the gradient with respect to the weight `[O,I,k,k]` and the bias `[O]` of each
    /// layer, in turn, from that with respect to what the last layer gave in a forward pass of
    /// training over `images`.
    pub fn weight_gradients(&self, tape: &LaneTape, images: &Tensor, last: &Tensor) -> Vec<Tensor> {
        let images = images.detach().to_kind(Kind::Float).contiguous();
        let last = last.detach().contiguous();
        let [channels, height, width] = self.shape;
        assert_eq!(images.size(), [tape.images, channels, height, width]);
        assert_eq!(last.size(), [tape.images, self.outputs]);
        assert_eq!(tape.kept.len() as i64, groups(tape.images) * self.kept);
        assert_eq!(tape.values.len() as i64, groups(tape.images) * self.stored);
        let shapes = self.layers.iter().flat_map(|layer| {
            let weight = vec![layer.outputs, layer.inputs, layer.kernel, layer.kernel];
            [weight, vec![layer.outputs]]
        });
        let shapes: Vec<Vec<i64>> = shapes.collect();
        let lengths: Vec<i64> = shapes.iter().map(|shape| shape.iter().product()).collect();
        let all = Tensor::empty([lengths.iter().sum()], (Kind::Float, Device::Cpu));
        // SAFETY: as above; `all` has a value for each weight and bias.
        unsafe {
            ffi::fd_stack_to_weights(
                self.layers.as_ptr(),
                self.layers.len() as i64,
                floats(&images),
                floats(&last),
                tape.images,
                tape.kept.as_ptr(),
                self.kept,
                tape.values.as_ptr(),
                self.stored,
                floats(&all),
            );
        }
        let parts = all.split_with_sizes(&lengths, 0).into_iter().zip(shapes);
        parts.map(|(part, shape)| part.view(&shape[..])).collect()
    }
}

/// Returns the layer as the passes take it; what it points to is added to `memory`.
fn packed(layer: &StackLayer, memory: &mut Vec<Vec<f32>>) -> Option<Layer> {
    let mut store = |values: Vec<f32>| {
        let pointer = values.as_ptr();
        memory.push(values);
        pointer
    };
    let weight = layer.weight.detach();
    // The transposed convolution is one with the weights turned by half a turn.
    let turned = weight.flip([2, 3]).transpose(0, 1);
    Some(Layer {
        inputs: layer.inputs,
        height: layer.size,
        width: layer.size,
        outputs: weight.size()[0],
        kernel: weight.size()[2],
        padding: layer.padding,
        pool: layer.pool.into(),
        relu: layer.relu.into(),
        weight: store(blocks(&weight)?),
        back: store(blocks(&turned)?),
        bias: store(Vec::try_from(layer.bias.detach().flatten(0, -1)).ok()?),
    })
}

/// Returns true for a layer that is computed in the caches, and whose transposed convolution needs
/// no cut.
fn is_small(layer: &StackLayer) -> bool {
    let kernel = layer.weight.size()[2];
    let side = layer.size + 2 * (kernel - 1);
    let values = layer.inputs.max(layer.weight.size()[0]) * side * side;
    values * LANES * 4 <= LARGEST && layer.padding < kernel
}

/// Returns the number of groups of sixteen images; the last one may have fewer.
fn groups(images: i64) -> i64 {
    (images + LANES - 1) / LANES
}

/// Returns how many values a layer gives.
fn outputs(layer: &Layer) -> i64 {
    let side = layer.height + 2 * layer.padding - layer.kernel + 1;
    let side = if layer.pool != 0 { side / 2 } else { side };
    layer.outputs * side * side
}

/// Returns weights `[O,I,k,k]` in the order of the passes: `[O/8][I][k][k][8]`, with a last block
/// of what is left; `None` when they cannot be read.
fn blocks(weight: &Tensor) -> Option<Vec<f32>> {
    let outputs = weight.size()[0];
    let mut values = Vec::new();
    for first in (0..outputs).step_by(BLOCK as usize) {
        let block = weight.narrow(0, first, BLOCK.min(outputs - first));
        let ordered = block.permute([1, 2, 3, 0]).contiguous().flatten(0, -1);
        values.extend(Vec::<f32>::try_from(ordered).ok()?);
    }
    Some(values)
}
