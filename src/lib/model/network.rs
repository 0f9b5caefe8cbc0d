//! The registry of architectures, and [`Model`]: a network together with its named tensors.

use super::StateDict;
use super::builder::{Builder, Entry};
use super::layers::Pass;
use super::settings::{ModelKind, ModelSpec};
use super::{cnn5, fedavg_cnn, lenet, linear, load, resnet};
use crate::Result;
use crate::runtime::seed::Rng;
use std::fmt;
use tch::{Device, Tensor};

/// What an architecture computes: images f32 [N,C,H,W] to logits [N,classes].
pub(super) trait Network: Send {
    fn forward(&self, images: &Tensor, pass: &mut Pass) -> Tensor {
        let features = self.features(images, pass);
        self.classify(&features)
    }

    /// Images to what the last linear layer sees: f32 [N,F].
    fn features(&self, images: &Tensor, pass: &mut Pass) -> Tensor;

    /// Those to logits.
    fn classify(&self, features: &Tensor) -> Tensor;

    /// Its layers, if it is a residual network.
    fn residual(&self) -> Option<&resnet::ResNet> {
        None
    }
}

fn network(spec: &ModelSpec, builder: &mut Builder) -> Result<Box<dyn Network>> {
    Ok(match spec.model.kind {
        ModelKind::Resnet18 | ModelKind::Resnet34 | ModelKind::Resnet50 => {
            Box::new(resnet::ResNet::new(spec, builder)?)
        }
        ModelKind::Lenet5 => Box::new(lenet::lenet5(spec, builder)?),
        ModelKind::Lenet5Unpadded => Box::new(lenet::lenet5_unpadded(spec, builder)?),
        ModelKind::Cnn5 => Box::new(cnn5::cnn5(spec, builder)?),
        ModelKind::FedavgCnn => Box::new(fedavg_cnn::fedavg_cnn(spec, builder)?),
        ModelKind::Linear => Box::new(linear::linear(spec, builder)?),
    })
}

/// A network with its weights, on one device.
pub struct Model {
    spec: ModelSpec,
    device: Device,
    network: Box<dyn Network>,
    entries: Vec<Entry>,
}

impl Model {
    /// A fresh network, trainable, with PyTorch's initialisation drawn from `rng`: the same seed
    /// gives the same weights on every device.
    ///
    /// # Errors
    /// A spec that [`ModelSpec::check`] refuses; a device without memory.
    pub fn new(spec: &ModelSpec, device: Device, rng: &mut Rng) -> Result<Self> {
        Self::build(spec, device, Some(rng))
    }

    /// A trainable network with the weights of `state`, copied.
    ///
    /// # Errors
    /// As [`Model::new`] and [`Model::load_state`].
    pub fn from_state(spec: &ModelSpec, state: &StateDict, device: Device) -> Result<Self> {
        let mut model = Self::build(spec, device, None)?;
        model.load_state(state)?;
        Ok(model)
    }

    fn build(spec: &ModelSpec, device: Device, rng: Option<&mut Rng>) -> Result<Self> {
        spec.check()?;
        let mut builder = Builder::new(device, rng);
        let network = network(spec, &mut builder)?;
        Ok(Self {
            spec: spec.clone(),
            device,
            network,
            entries: builder.finish(),
        })
    }

    /// Copies `state` into the network's own tensors. Other float types are converted to f32.
    ///
    /// # Errors
    /// Names that are missing or not the model's, a wrong shape or type, a value that is not
    /// finite, a negative variance. On error nothing has changed.
    pub fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let fitted = load::fit(&self.entries, state)?;
        tch::no_grad(|| {
            for (entry, source) in self.entries.iter().zip(&fitted) {
                entry.tensor.shallow_clone().f_copy_(source)?;
            }
            Ok(())
        })
    }

    /// Parameters and buffers under PyTorch's names and in its order: detached views that follow
    /// the model.
    pub fn state(&self) -> StateDict {
        let view = |entry: &Entry| (entry.name.clone(), entry.tensor.detach());
        StateDict::new(self.entries.iter().map(view).collect())
    }

    /// Architecture and shape.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Logits [N,classes] of `images` [N,C,H,W], whose shape must be the spec's.
    pub fn forward(&self, images: &Tensor, pass: &mut Pass) -> Tensor {
        self.network.forward(images, pass)
    }

    /// [`Model::forward`] with the running statistics. Gradients follow the ambient mode.
    pub fn eval(&self, images: &Tensor) -> Tensor {
        self.forward(images, &mut Pass::Eval)
    }

    /// Penultimate activations f32 [N,F] of `images` with the running statistics: what the last
    /// linear layer sees.
    pub fn features(&self, images: &Tensor) -> Tensor {
        self.network.features(images, &mut Pass::Eval)
    }

    /// Shallow clones of the parameters, in state-dict order.
    pub fn parameters(&self) -> Vec<Tensor> {
        let parameters = self.entries.iter().filter(|entry| entry.is_parameter);
        parameters
            .map(|entry| entry.tensor.shallow_clone())
            .collect()
    }

    /// The same with their names in the state dict.
    pub fn named_parameters(&self) -> Vec<(&str, Tensor)> {
        let parameters = self.entries.iter().filter(|entry| entry.is_parameter);
        let named = parameters.map(|entry| (entry.name.as_str(), entry.tensor.shallow_clone()));
        named.collect()
    }

    /// The layers of a residual network; `None` for the other kinds.
    pub fn residual(&self) -> Option<&resnet::ResNet> {
        self.network.residual()
    }

    /// Takes every parameter out of autograd: no gradient of a weight is ever computed.
    pub fn freeze(&mut self) {
        for parameter in self.parameters() {
            let _ = parameter.set_requires_grad(false);
        }
    }

    /// Number of batch-norm layers.
    pub fn batch_norms(&self) -> usize {
        let means = self
            .entries
            .iter()
            .filter(|e| e.name.ends_with(".running_mean"));
        means.count()
    }

    /// Number of parameter values; buffers do not count.
    pub fn parameter_count(&self) -> u64 {
        self.parameters().iter().map(|p| p.numel() as u64).sum()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Model")
            .field("spec", &self.spec)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
