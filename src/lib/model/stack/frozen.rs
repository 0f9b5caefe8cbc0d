//! Defines a stack of convolutions as it is at one time, of which passes of our own compute the
//! first layers, or all, forward and backward. Called by [`Loaded`](crate::inversion::Loaded), by
//! what differentiates teachers, and for a network in training by [`Model::differentiate`].

use super::StackLayer;
use super::first::{FirstLayer, FirstTape};
use super::lanes::{LaneStack, LaneTape};
use crate::model::{Model, Precision};
use tch::{Device, Tensor, no_grad};

/// Holds a copy of the layers that are computed by passes of our own, and the others.
#[derive(Debug)]
pub struct FrozenStack {
    passes: Passes,
    /// Number of the layers that the passes compute.
    depth: usize,
    /// The layers after them, which libtorch computes.
    rest: Vec<StackLayer>,
}

#[derive(Debug)]
enum Passes {
    /// Compute all layers that were wanted.
    Lanes(LaneStack),
    /// Compute the first convolution.
    First(FirstLayer),
}

/// Holds what the backward pass of a forward pass needs.
#[derive(Debug)]
pub struct StackTape(Tape);

#[derive(Debug)]
enum Tape {
    Lanes(LaneTape),
    First(FirstTape),
}

impl FrozenStack {
    /// Freezes `model` as it is now; returns `None` if it is no such network, or one that libtorch
    /// computes faster, is not on the CPU, or does not compute in float32.
    ///
    /// ```
    /// use fed_distill::model::{FrozenStack, Model, ModelKind, ModelSettings, ModelSpec};
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
    /// let (maps, tape) = stack.forward(&images);
    /// let maps = maps.set_requires_grad(true);
    /// let logits = stack.rest(&maps);
    /// let apart = (&logits - model.eval(&images)).abs().max();
    /// assert!(f64::try_from(apart)? < 1e-5);
    /// let upstream = Tensor::run_backward(&[logits.sum(Kind::Float)], &[maps], false, false);
    /// let gradient = stack.image_gradient(&tape, &upstream[0]);
    /// assert_eq!(gradient.size(), images.size());
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(model: &Model) -> Option<Self> {
        Self::of_layers(model, model.stack()?.layers())
    }

    /// Freezes the convolutions of `model` alone, without its linear layers; else as
    /// [`of`](Self::of).
    pub(crate) fn of_convolutions(model: &Model) -> Option<Self> {
        let mut layers = model.stack()?.layers();
        layers.retain(|layer| layer.pixels);
        Self::of_layers(model, layers)
    }

    fn of_layers(model: &Model, mut layers: Vec<StackLayer>) -> Option<Self> {
        if (model.device(), model.precision()) != (Device::Cpu, Precision::F32) {
            return None;
        }
        let spec = model.spec();
        let (passes, depth) = match LaneStack::of(&layers, [spec.channels, spec.size, spec.size]) {
            Some(lanes) => (Passes::Lanes(lanes), layers.len()),
            None => (Passes::First(FirstLayer::of(layers.first()?)?), 1),
        };
        Some(Self {
            passes,
            depth,
            rest: layers.drain(depth..).map(StackLayer::frozen).collect(),
        })
    }

    /// Returns the number of the network's layers that passes of our own compute.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Returns the logits f32 `[N,classes]` of `images` f32 `[N,C,H,W]`, without a graph.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        let maps = match &self.passes {
            Passes::Lanes(lanes) => lanes.predict(images),
            Passes::First(layer) => layer.predict(images),
        };
        no_grad(|| self.rest(&maps))
    }

    /// Returns what the layers that passes compute give for `images`, without a graph, and what
    /// [`image_gradient`](Self::image_gradient) needs.
    pub fn forward(&self, images: &Tensor) -> (Tensor, StackTape) {
        match &self.passes {
            Passes::Lanes(lanes) => of_lanes(lanes.forward(images)),
            Passes::First(layer) => of_first(layer.forward(images)),
        }
    }

    /// Returns the same, and what [`weight_gradients`](Self::weight_gradients) needs too.
    pub(crate) fn forward_in_training(&self, images: &Tensor) -> (Tensor, StackTape) {
        match &self.passes {
            Passes::Lanes(lanes) => of_lanes(lanes.forward_in_training(images)),
            Passes::First(layer) => of_first(layer.forward(images)),
        }
    }

    /// Returns what the other layers give for that, with its graph; itself if there are none.
    pub fn rest(&self, maps: &Tensor) -> Tensor {
        let first = maps.shallow_clone();
        self.rest
            .iter()
            .fold(first, |maps, layer| layer.forward(&maps))
    }

    /// Returns the gradient f32 `[N,C,H,W]` with respect to the images of a forward pass, from that
    /// with respect to what it returned.
    ///
    /// # Panics
    /// When the tape is that of another kind of network, or of images of another size.
    pub fn image_gradient(&self, tape: &StackTape, maps: &Tensor) -> Tensor {
        match (&self.passes, &tape.0) {
            (Passes::Lanes(lanes), Tape::Lanes(tape)) => lanes.image_gradient(tape, maps),
            (Passes::First(layer), Tape::First(tape)) => layer.image_gradient(tape, maps),
            _ => unreachable!("the tape is another stack's"),
        }
    }

    /// Returns the gradient with respect to the weight `[O,I,k,k]` and the bias `[O]` of each layer
    /// that passes compute, in turn, from that with respect to what a forward pass of training over
    /// `images` returned.
    pub(crate) fn weight_gradients(
        &self,
        tape: &StackTape,
        images: &Tensor,
        maps: &Tensor,
    ) -> Vec<Tensor> {
        match (&self.passes, &tape.0) {
            (Passes::Lanes(lanes), Tape::Lanes(tape)) => lanes.weight_gradients(tape, images, maps),
            (Passes::First(layer), Tape::First(tape)) => layer.weight_gradients(tape, maps),
            _ => unreachable!("the tape is another stack's"),
        }
    }
}

fn of_lanes((maps, tape): (Tensor, LaneTape)) -> (Tensor, StackTape) {
    (maps, StackTape(Tape::Lanes(tape)))
}

fn of_first((maps, tape): (Tensor, FirstTape)) -> (Tensor, StackTape) {
    (maps, StackTape(Tape::First(tape)))
}
