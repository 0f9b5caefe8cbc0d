//! Defines [`Model`], a network together with its named tensors, and builds the network of each
//! [`ModelKind`].

use super::StateDict;
use super::builder::{Builder, Entry, Values};
use super::dropout::Masks;
use super::layers::{Pass, channels_last};
use super::precision::Precision;
use super::settings::{ModelKind, ModelSpec};
use super::stack::Stack;
use super::{cnn5, fedavg_cnn, lenet, linear, load, mnist_cnn, resnet, wrn};
use crate::Result;
use crate::optim::Layout;
use crate::runtime::seed::Rng;
use std::fmt;
use tch::{Device, Kind, Tensor};

/// Maps images [N,C,H,W] to logits f32 [N,classes]. Convolutions and the layers between them
/// compute in the type of the images.
pub(super) trait Network: Send {
    /// Maps images to logits.
    fn forward(&self, images: &Tensor, pass: &mut Pass) -> Tensor {
        let features = self.features(images, pass);
        self.classify(&features)
    }

    /// Maps images to the input of the last linear layer, f32 [N,F].
    fn features(&self, images: &Tensor, pass: &mut Pass) -> Tensor;

    /// Maps these features to logits.
    fn classify(&self, features: &Tensor) -> Tensor;

    /// Returns the layers of a residual network, and `None` for another network.
    fn residual(&self) -> Option<&resnet::ResNet> {
        None
    }

    /// Returns the layers of a stack of convolutions, and `None` for another network.
    fn stack(&self) -> Option<&Stack> {
        None
    }

    /// Returns true if it has dropout.
    fn drops(&self) -> bool {
        false
    }
}

/// Builds the network of `spec`, and returns it with its named tensors.
///
/// # Errors
/// Fails when [`ModelSpec::check`] refuses `spec`, or the device has no memory.
fn build(
    spec: &ModelSpec,
    device: Device,
    values: Values,
) -> Result<(Box<dyn Network>, Vec<Entry>)> {
    spec.check()?;
    let mut builder = Builder::new(device, values);
    let network = network(spec, &mut builder)?;
    Ok((network, builder.finish()))
}

/// Constructs the layers of `spec`'s network.
fn network(spec: &ModelSpec, builder: &mut Builder) -> Result<Box<dyn Network>> {
    Ok(match spec.model.kind {
        ModelKind::Resnet18 | ModelKind::Resnet34 | ModelKind::Resnet50 => {
            Box::new(resnet::ResNet::new(spec, builder)?)
        }
        ModelKind::Lenet5 => Box::new(lenet::lenet5(spec, builder)?),
        ModelKind::Lenet5Unpadded => Box::new(lenet::lenet5_unpadded(spec, builder)?),
        ModelKind::Wrn16_1 => Box::new(wrn::WideResNet::new(spec, builder, 16)?),
        ModelKind::Wrn40_1 => Box::new(wrn::WideResNet::new(spec, builder, 40)?),
        ModelKind::Cnn5 => Box::new(cnn5::cnn5(spec, builder)?),
        ModelKind::Cnn64 => Box::new(cnn5::cnn64(spec, builder)?),
        ModelKind::FedavgCnn => Box::new(fedavg_cnn::fedavg_cnn(spec, builder)?),
        ModelKind::MnistCnn => Box::new(mnist_cnn::mnist_cnn(spec, builder)?),
        ModelKind::Linear => Box::new(linear::linear(spec, builder)?),
    })
}

/// Holds a network with its weights on one device.
///
/// ```
/// use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> fed_distill::Result<()> {
/// let settings = ModelSettings { kind: ModelKind::Lenet5, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 28, 10)?;
/// let mut rng = Seeds::new(42).stream("initialisation", 0);
/// let model = Model::new(&spec, Device::Cpu, &mut rng)?;
/// let images = Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu));
/// let logits = model.eval(&images);
/// assert_eq!(logits.size(), [2, 10]);
///
/// // The state dict has PyTorch's names; another model can be made from it.
/// let state = model.state();
/// assert_eq!(state.get("conv1.weight").unwrap().size(), [6, 1, 5, 5]);
/// let copy = Model::from_state(&spec, &state, Device::Cpu)?;
/// assert_eq!(copy.eval(&images), logits);
/// # Ok(())
/// # }
/// ```
pub struct Model {
    spec: ModelSpec,
    device: Device,
    precision: Precision,
    network: Box<dyn Network>,
    entries: Vec<Entry>,
}

impl Model {
    /// Returns a trainable network with PyTorch's initialisation drawn from `rng`: the same seed
    /// gives the same weights on every device.
    ///
    /// # Errors
    /// Fails when [`ModelSpec::check`] refuses `spec`, or the device has no memory.
    pub fn new(spec: &ModelSpec, device: Device, rng: &mut Rng) -> Result<Self> {
        let (network, entries) = build(spec, device, Values::Drawn(rng))?;
        Ok(Self::of(spec, device, network, entries))
    }

    /// Returns a trainable network with a copy of the weights of `state`.
    ///
    /// # Errors
    /// Fails when [`Model::new`] or [`Model::load_state`] does. A state that does not fit is
    /// refused before memory is taken for the network, however large `spec` says that it is.
    pub fn from_state(spec: &ModelSpec, state: &StateDict, device: Device) -> Result<Self> {
        let (_, outline) = build(spec, Device::Cpu, Values::Outline)?;
        load::check_shapes(&outline, state)?;
        let (network, entries) = build(spec, device, Values::Zero)?;
        let mut model = Self::of(spec, device, network, entries);
        model.load_state(state)?;
        Ok(model)
    }

    /// Returns the number of parameters of `spec`'s network, without taking memory for them.
    ///
    /// # Errors
    /// Fails when [`ModelSpec::check`] refuses `spec`.
    pub fn count_parameters(spec: &ModelSpec) -> Result<u64> {
        let (_, entries) = build(spec, Device::Cpu, Values::Outline)?;
        let parameters = entries.iter().filter(|entry| entry.is_parameter);
        Ok(parameters.map(|entry| entry.tensor.numel() as u64).sum())
    }

    /// Returns the name, shape and type of each tensor of `spec`'s state dict, in its order,
    /// without taking memory for the tensors.
    ///
    /// # Errors
    /// Fails when [`ModelSpec::check`] refuses `spec`.
    pub fn outline(spec: &ModelSpec) -> Result<Vec<(String, Vec<i64>, Kind)>> {
        let (_, entries) = build(spec, Device::Cpu, Values::Outline)?;
        let described = entries.into_iter().map(|entry| {
            let Entry { name, tensor, .. } = entry;
            (name, tensor.size(), tensor.kind())
        });
        Ok(described.collect())
    }

    /// Returns the model of a network that was built for `spec`.
    fn of(
        spec: &ModelSpec,
        device: Device,
        network: Box<dyn Network>,
        entries: Vec<Entry>,
    ) -> Self {
        let model = Self {
            spec: spec.clone(),
            device,
            precision: Precision::F32,
            network,
            entries,
        };
        if device != Device::Cpu {
            model.pack();
        }
        model
    }

    /// Moves the parameters into one buffer, on which an optimiser's step takes a few kernels in
    /// all, instead of a few for each parameter.
    fn pack(&self) {
        let mut parameters = self.parameters();
        if let Some(layout) = Layout::of(&parameters) {
            layout.pack(&mut parameters);
        }
    }

    /// Copies `state` into the network's own tensors. Other float types are converted to f32.
    ///
    /// # Errors
    /// Fails when names are missing or unexpected, a shape or type differs, a value is not finite,
    /// or a variance is negative. On error nothing has changed.
    pub fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let fitted = load::matching_tensors(&self.entries, state)?;
        tch::no_grad(|| {
            for (entry, source) in self.entries.iter().zip(&fitted) {
                entry.tensor.shallow_clone().f_copy_(source)?;
            }
            Ok(())
        })
    }

    /// Returns parameters and buffers under PyTorch's names and in its order, as detached views
    /// that follow the model.
    pub fn state(&self) -> StateDict {
        let view = |entry: &Entry| (entry.name.clone(), entry.tensor.detach());
        StateDict::new(self.entries.iter().map(view).collect())
    }

    /// Returns the architecture and the shape of input and output.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Returns the type that convolutions are computed in: float32 unless
    /// [`Model::with_precision`] has set another.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Sets the type that convolutions are computed in. The weights themselves stay float32.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Returns the device of the weights.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the logits f32 `[N,classes]` of `images` `[N,C,H,W]`, normalised and of the spec's
    /// shape.
    pub fn forward(&self, images: &Tensor, pass: &mut Pass) -> Tensor {
        self.network.forward(&self.prepared(images), pass)
    }

    /// Converts images to what the first convolution takes: to its type, and on a GPU to
    /// channels-last order, which tensor cores need. Later layers keep both.
    fn prepared(&self, images: &Tensor) -> Tensor {
        if self.device == Device::Cpu {
            return images.to_kind(self.precision.kind());
        }
        channels_last(&images.to_kind(self.precision.kind()))
    }

    /// Returns the logits f32 `[N,classes]` of `images` with the running statistics. The caller
    /// decides about gradients (`tch::no_grad`).
    pub fn eval(&self, images: &Tensor) -> Tensor {
        self.forward(images, &mut Pass::Eval)
    }

    /// Returns the penultimate activations f32 `[N,F]` of `images`, the input of the last linear
    /// layer.
    pub fn features(&self, images: &Tensor, pass: &mut Pass) -> Tensor {
        self.network.features(&self.prepared(images), pass)
    }

    /// Returns the logits f32 `[N,classes]` of such activations.
    pub fn classify(&self, features: &Tensor) -> Tensor {
        self.network.classify(features)
    }

    /// Returns shallow clones of the parameters, in state-dict order.
    pub fn parameters(&self) -> Vec<Tensor> {
        let parameters = self.entries.iter().filter(|entry| entry.is_parameter);
        parameters
            .map(|entry| entry.tensor.shallow_clone())
            .collect()
    }

    /// Returns shallow clones of the parameters with their names in the state dict, in its order.
    pub fn named_parameters(&self) -> Vec<(&str, Tensor)> {
        let parameters = self.entries.iter().filter(|entry| entry.is_parameter);
        let named = parameters.map(|entry| (entry.name.as_str(), entry.tensor.shallow_clone()));
        named.collect()
    }

    /// Returns the layers of a residual network, and `None` for the other kinds.
    pub fn residual(&self) -> Option<&resnet::ResNet> {
        self.network.residual()
    }

    /// Returns the layers of a stack of convolutions and linear layers, and `None` for the other
    /// kinds.
    pub(crate) fn stack(&self) -> Option<&Stack> {
        self.network.stack()
    }

    /// Returns what a training pass drops: nothing in a network without dropout, for which `draw`,
    /// the seed of the masks, is not called.
    pub fn masks(&self, draw: impl FnOnce() -> u64) -> Masks {
        match self.network.drops() {
            true => Masks::new(draw()),
            false => Masks::default(),
        }
    }

    /// Takes every parameter out of autograd, so that no gradient of a weight is ever computed.
    pub fn freeze(&mut self) {
        for parameter in self.parameters() {
            let _ = parameter.set_requires_grad(false);
        }
    }

    /// Returns the number of batch-norm layers.
    pub fn batch_norms(&self) -> usize {
        let means = self
            .entries
            .iter()
            .filter(|e| e.name.ends_with(".running_mean"));
        means.count()
    }

    /// Returns the number of parameter values; buffers do not count.
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
