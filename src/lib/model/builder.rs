//! Creates and registers a network's tensors while its layers are constructed, in PyTorch's
//! registration order. Called by the layers and by [`Model`](super::Model).

use crate::runtime::seed::Rng;
use crate::{Error, Result};
use rand::Rng as _;
use tch::{Device, Kind, Tensor};

/// Holds one tensor of the state dict; the layer holds a shallow clone of it.
pub(crate) struct Entry {
    pub name: String,
    pub tensor: Tensor,
    pub is_parameter: bool,
}

/// Selects the values of the weights.
pub(crate) enum Values<'a> {
    /// Draws them, as PyTorch initialises its layers.
    Drawn(&'a mut Rng),
    /// Sets them to zero, because a state will be loaded.
    Zero,
    /// Takes no memory for them: each tensor has its shape, and one value. Such a network shows
    /// what state it needs.
    Outline,
}

/// Creates tensors for layers and collects their [`Entry`]s.
pub(crate) struct Builder<'a> {
    device: Device,
    values: Values<'a>,
    entries: Vec<Entry>,
}

impl<'a> Builder<'a> {
    /// Returns a builder without entries, whose tensors will be on `device`.
    pub fn new(device: Device, values: Values<'a>) -> Self {
        Self {
            device,
            values,
            entries: Vec::new(),
        }
    }

    /// Returns the entries in the order in which they were registered.
    pub fn finish(self) -> Vec<Entry> {
        self.entries
    }

    /// Registers an f32 parameter drawn from U(−1/√fan_in, 1/√fan_in): PyTorch's default for
    /// convolution and linear weights (Kaiming-uniform with a = √5) and biases. It is drawn on the
    /// host, so every device gets the same bits.
    ///
    /// # Errors
    /// Fails when the host or the device has no memory for it.
    pub fn uniform(&mut self, name: String, shape: &[i64], fan_in: i64) -> Result<Tensor> {
        let tensor = match &mut self.values {
            Values::Outline => {
                Tensor::f_zeros([1], (Kind::Float, self.device))?.f_expand(shape, false)?
            }
            Values::Zero => ordered(Tensor::f_zeros(shape, (Kind::Float, self.device))?)?,
            Values::Drawn(rng) => {
                let bound = 1.0 / (fan_in as f64).sqrt();
                let values = drawn(shape, || (2.0 * rng.random::<f32>() - 1.0) * bound as f32)?;
                let tensor = Tensor::f_from_slice(&values)?.f_view(shape)?;
                ordered(tensor.f_to_device(self.device)?)?
            }
        };
        self.parameter(name, tensor)
    }

    /// Registers an f32 parameter [length], every element of which is `value`.
    pub fn filled(&mut self, name: String, length: i64, value: f64) -> Result<Tensor> {
        let tensor = self.constant(length, value)?;
        self.parameter(name, tensor)
    }

    /// Registers an f32 buffer [length], every element of which is `value`.
    pub fn buffer(&mut self, name: String, length: i64, value: f64) -> Result<Tensor> {
        let tensor = self.constant(length, value)?;
        Ok(self.register(name, tensor, false))
    }

    /// Returns an f32 tensor [length] of one value.
    fn constant(&self, length: i64, value: f64) -> Result<Tensor> {
        let options = (Kind::Float, self.device);
        Ok(match self.values {
            Values::Outline => Tensor::f_full([1], value, options)?.f_expand([length], false)?,
            _ => Tensor::f_full([length], value, options)?,
        })
    }

    /// Registers an i64 scalar that is zero.
    pub fn counter(&mut self, name: String) -> Result<Tensor> {
        let tensor = Tensor::f_zeros([0i64; 0], (Kind::Int64, self.device))?;
        Ok(self.register(name, tensor, false))
    }

    /// Registers a tensor that requires gradients.
    fn parameter(&mut self, name: String, tensor: Tensor) -> Result<Tensor> {
        let tensor = tensor.f_set_requires_grad(true)?;
        Ok(self.register(name, tensor, true))
    }

    /// Registers a tensor and returns a shallow clone of it.
    fn register(&mut self, name: String, tensor: Tensor, is_parameter: bool) -> Tensor {
        let handle = tensor.shallow_clone();
        self.entries.push(Entry {
            name,
            tensor,
            is_parameter,
        });
        handle
    }
}

/// Returns convolution weights in channels-last order, and other tensors as they are. The outputs
/// of libtorch's convolutions have the order of their weights: a training step of a ResNet is 1.3
/// times as fast on the CPU (two AVX-512 cores, width 16 and 64), and on CUDA the tensor cores take
/// their operands in this order.
fn ordered(tensor: Tensor) -> Result<Tensor> {
    let &[outputs, inputs, height, width] = &tensor.size()[..] else {
        return Ok(tensor);
    };
    // A tensor of one input channel counts as dense in both orders: `contiguous` would leave its
    // strides as they are, and libtorch takes them for channels first.
    let shape = [outputs, height, width, inputs];
    let options = (tensor.kind(), tensor.device());
    let mut last = Tensor::f_empty(shape, options)?.f_permute([0, 3, 1, 2])?;
    last.f_copy_(&tensor)?;
    Ok(last)
}

/// Draws the values of a tensor of `shape`, one by one.
///
/// # Errors
/// Fails, and does not abort, when the host has no memory for them.
pub(crate) fn drawn(shape: &[i64], draw: impl FnMut() -> f32) -> Result<Vec<f32>> {
    let count: i64 = shape.iter().product();
    let mut values = Vec::new();
    values.try_reserve_exact(count as usize).map_err(|error| {
        Error::failed(format!(
            "there is no memory for a weight tensor of shape {shape:?}"
        ))
        .caused_by(error)
    })?;
    values.extend(std::iter::repeat_with(draw).take(count as usize));
    Ok(values)
}
