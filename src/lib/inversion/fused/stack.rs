//! Defines a frozen network of convolutions, pooling and linear layers, such as LeNet-5, that
//! `stack.cpp` computes on the CPU, forward and backward to the images. Called by
//! [`Loaded`](crate::inversion::Loaded), and by what differentiates teachers.
//!
//! Such networks have so few channels that libtorch's convolutions, which compute many channels at
//! a time, leave most of a core idle. Here sixteen images are computed at a time, one a lane.

use super::ffi::{self, Layer};
use super::kernels::floats;
use crate::model::{Model, Precision, StackLayer};
use tch::{Device, Kind, Tensor};

/// Images that are computed at a time.
const LANES: i64 = 16;
/// Outputs that are summed at a time.
const BLOCK: i64 = 8;
/// Networks are computed so if the values of a layer of sixteen images take at most this much
/// memory: with more they leave the caches, and libtorch is faster.
const LARGEST: i64 = 1 << 20;

/// Holds a frozen network.
#[derive(Debug)]
pub struct FrozenStack {
    layers: Vec<Layer>,
    /// What the layers point to.
    _weights: Vec<Vec<f32>>,
    /// Shape of an image.
    shape: [i64; 3],
    classes: i64,
    /// Values of a tape for a group of sixteen images.
    kept: i64,
}

/// Holds what the backward pass of a forward pass needs: which values were chosen.
#[derive(Debug)]
pub struct StackTape {
    kept: Vec<i32>,
    images: i64,
}

impl FrozenStack {
    /// Freezes `model` as it is now; returns `None` if it is no such network, or one that libtorch
    /// computes faster, is not on the CPU, or does not compute in float32.
    ///
    /// ```
    /// use fed_distill::inversion::fused::FrozenStack;
    /// use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
    /// use fed_distill::runtime::seed::Seeds;
    /// use tch::{Device, Kind, Tensor};
    ///
    /// # fn main() -> fed_distill::Result<()> {
    /// let kind = ModelKind::Lenet5;
    /// let spec = ModelSpec::new(&ModelSettings { kind, ..ModelSettings::default() }, 1, 16, 3)?;
    /// let mut rng = Seeds::new(42).stream("initialisation", 0);
    /// let model = Model::new(&spec, Device::Cpu, &mut rng)?;
    /// let stack = FrozenStack::of(&model).expect("LeNet-5 is a stack");
    /// let images = Tensor::ones([4, 1, 16, 16], (Kind::Float, Device::Cpu));
    /// let (logits, tape) = stack.forward(&images);
    /// let apart = (logits - model.eval(&images)).abs().max();
    /// assert!(f64::try_from(apart)? < 1e-5);
    /// let upstream = Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
    /// let gradient = stack.image_gradient(tape, &upstream);
    /// assert_eq!(gradient.size(), images.size());
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(model: &Model) -> Option<Self> {
        if (model.device(), model.precision()) != (Device::Cpu, Precision::F32) {
            return None;
        }
        let spec = model.spec();
        let layers = model.stack()?.layers(spec);
        if layers.iter().any(|layer| !is_small(layer)) {
            return None;
        }
        let mut weights = Vec::new();
        let mut of_layer = |layer: &StackLayer| {
            let mut store = |values: Vec<f32>| {
                let pointer = values.as_ptr();
                weights.push(values);
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
        };
        let layers = layers
            .iter()
            .map(&mut of_layer)
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            kept: layers.iter().map(|layer| LANES * outputs(layer)).sum(),
            layers,
            _weights: weights,
            shape: [spec.channels, spec.size, spec.size],
            classes: spec.classes,
        })
    }

    /// Returns the logits f32 `[N,classes]` of `images` f32 `[N,C,H,W]`, without a graph.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        self.logits(images, &mut [])
    }

    /// Returns the same logits, and what the backward pass needs.
    pub fn forward(&self, images: &Tensor) -> (Tensor, StackTape) {
        let count = images.size()[0];
        let groups = (count + LANES - 1) / LANES;
        let mut kept = vec![0; (groups * self.kept) as usize];
        let logits = self.logits(images, &mut kept);
        let images = count;
        (logits, StackTape { kept, images })
    }

    fn logits(&self, images: &Tensor, tape: &mut [i32]) -> Tensor {
        let images = images.detach().to_kind(Kind::Float).contiguous();
        let count = images.size()[0];
        assert_eq!(images.size()[1..], self.shape);
        let logits = Tensor::empty([count, self.classes], (Kind::Float, Device::Cpu));
        let kept = match tape.is_empty() {
            true => std::ptr::null_mut(),
            false => tape.as_mut_ptr(),
        };
        // SAFETY: dense f32 tensors on the CPU of these sizes; the layers point to vectors of their
        // sizes, which live as long as they do; the tape is as long as `forward` makes it.
        unsafe {
            ffi::fd_stack_forward(
                self.layers.as_ptr(),
                self.layers.len() as i64,
                floats(&images),
                count,
                floats(&logits),
                kept,
                self.kept,
            );
        }
        logits
    }

    /// Returns the gradient f32 `[N,C,H,W]` with respect to the images of a forward pass, from that
    /// with respect to its logits, f32 `[N,classes]`.
    pub fn image_gradient(&self, tape: StackTape, logits: &Tensor) -> Tensor {
        let logits = logits.detach().contiguous();
        assert_eq!(logits.size(), [tape.images, self.classes]);
        let [channels, height, width] = self.shape;
        let shape = [tape.images, channels, height, width];
        let images = Tensor::empty(shape, (Kind::Float, Device::Cpu));
        // SAFETY: as above; the tape is that of a forward pass of as many images.
        unsafe {
            ffi::fd_stack_backward(
                self.layers.as_ptr(),
                self.layers.len() as i64,
                floats(&logits),
                tape.images,
                tape.kept.as_ptr(),
                self.kept,
                floats(&images),
            );
        }
        images
    }
}

/// Returns true for a layer that is computed in the caches, and whose transposed convolution needs
/// no cut.
fn is_small(layer: &StackLayer) -> bool {
    let kernel = layer.weight.size()[2];
    let side = layer.size + 2 * (kernel - 1);
    let values = layer.inputs.max(layer.weight.size()[0]) * side * side;
    values * LANES * 4 <= LARGEST && layer.padding < kernel
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
