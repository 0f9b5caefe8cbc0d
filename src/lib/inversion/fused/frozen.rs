//! Defines a frozen network that one of the two backends computes. Called by the fused engine and
//! by [`Loaded`](crate::inversion::Loaded).

use super::backend::Backend;
use super::net::Net;
use super::operations::Operations;
use super::passes::Passes;
use crate::model::{BatchNorm, Model, ModelSpec, Precision, ResNet};
use std::fmt;
use std::rc::Rc;
use tch::{Device, Tensor};

/// Holds a frozen residual network; a clone shares it.
#[derive(Clone)]
pub enum Frozen {
    /// Computes in float32 on the CPU by the C++ passes.
    Passes(Rc<Net<Passes>>),
    /// Computes on any device, in any precision, by libtorch's operations.
    Operations(Rc<Net<Operations>>),
}

/// Holds the result of a forward pass.
pub struct ForwardPass {
    /// Logits f32 `[N,classes]` without a graph.
    pub logits: Tensor,
    /// Sum of the batch-norm distances, a scalar, if they were observed.
    pub distance: Option<Tensor>,
    /// Computes, once, the gradient f32 `[N,H,W,C]` with respect to the images of a loss whose
    /// gradient with respect to the logits is given, `[N,classes]`, plus a multiple of the
    /// distance.
    pub backward: Backward,
}

/// The backward pass of a forward pass.
pub type Backward = Box<dyn FnOnce(&Tensor, f64) -> Tensor>;

impl Frozen {
    /// Returns `true` when models of `spec` can be frozen: residual networks.
    pub fn supports(spec: &ModelSpec) -> bool {
        spec.model.kind.is_residual()
    }

    /// Freezes `model` in its precision; returns `None` if it is no residual network.
    pub fn of(model: &Model) -> Option<Self> {
        match (model.device(), model.precision()) {
            (Device::Cpu, Precision::F32) => {
                let net = Net::new(Passes::default(), model.residual()?);
                Some(Self::Passes(Rc::new(net)))
            }
            (_, precision) => Self::with_operations(model, precision),
        }
    }

    /// Freezes `model` for libtorch's operations, in a precision of choice; returns `None` if it is
    /// no residual network.
    pub fn with_operations(model: &Model, precision: Precision) -> Option<Self> {
        let network = model.residual()?;
        let operations = tch::no_grad(|| Operations::new(&norms(network), precision));
        Some(Self::Operations(Rc::new(Net::new(operations, network))))
    }

    /// Passes `images` f32 `[N,H,W,C]` through the network; with `observe`, the distances of their
    /// batch-norm statistics are computed.
    pub fn forward(&self, images: &Tensor, observe: bool) -> ForwardPass {
        match self {
            Self::Passes(net) => pass(net, images, observe),
            Self::Operations(net) => pass(net, images, observe),
        }
    }

    /// Returns the logits f32 `[N,classes]` of `images` f32 `[N,C,H,W]`, without a graph.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        match self {
            Self::Passes(net) => net.predict(images),
            Self::Operations(net) => net.predict(images),
        }
    }
}

fn pass<B: Backend + 'static>(net: &Rc<Net<B>>, images: &Tensor, observe: bool) -> ForwardPass {
    let (logits, tape) = net.forward(images, observe);
    let (distance, net) = (net.distance(&tape), Rc::clone(net));
    ForwardPass {
        logits,
        distance,
        backward: Box::new(move |logits, by| net.backward(tape, logits, by)),
    }
}

/// Returns all batch norms in module order.
fn norms(network: &ResNet) -> Vec<&BatchNorm> {
    let mut layers = vec![&network.stem];
    for block in &network.blocks {
        layers.extend(block.body.iter().chain(&block.shortcut));
    }
    layers.into_iter().map(|layer| &layer.norm).collect()
}

impl fmt::Debug for Frozen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Passes(_) => "Frozen::Passes",
            Self::Operations(_) => "Frozen::Operations",
        })
    }
}
