//! A frozen network, whatever it is computed with.

use super::net::{Net, Tape};
use super::operations::Operations;
use super::passes::Passes;
use crate::model::{BatchNorm, Model, ModelSpec, Precision, ResNet};
use std::fmt;
use std::rc::Rc;
use tch::{Device, Tensor};

/// A frozen residual network; a clone is the same network.
#[derive(Clone)]
pub enum Frozen {
    /// float32 on the CPU.
    Passes(Rc<Net<Passes>>),
    /// Any device, any precision.
    Operations(Rc<Net<Operations>>),
}

/// A forward pass: logits [N,classes] without a graph, the sum of the batch-norm distances where it
/// was observed, and the way back.
pub struct Passed {
    pub logits: Tensor,
    /// A scalar on the device.
    pub distance: Option<Tensor>,
    pub back: Back,
}

/// The way back through the network that was passed.
pub enum Back {
    Passes(Rc<Net<Passes>>, Tape<Passes>),
    Operations(Rc<Net<Operations>>, Tape<Operations>),
}

impl Frozen {
    /// Whether a model has a path of frozen weights: a residual network.
    pub fn has_path(spec: &ModelSpec) -> bool {
        spec.model.kind.is_residual()
    }

    /// Freezes `model` in its precision; `None` where there is no such path.
    pub fn of(model: &Model) -> Option<Self> {
        match (model.device(), model.precision()) {
            (Device::Cpu, Precision::F32) => {
                let net = Net::new(Passes::default(), model.residual()?);
                Some(Self::Passes(Rc::new(net)))
            }
            (_, precision) => Self::by_operations(model, precision),
        }
    }

    /// The same by libtorch's operations, in a precision of its own.
    pub fn by_operations(model: &Model, precision: Precision) -> Option<Self> {
        let network = model.residual()?;
        let operations = tch::no_grad(|| Operations::new(&norms(network), precision));
        Some(Self::Operations(Rc::new(Net::new(operations, network))))
    }

    /// Passes `images` f32 [N,H,W,C]; `observe`: their batch-norm statistics count.
    pub fn forward(&self, images: &Tensor, observe: bool) -> Passed {
        match self {
            Self::Passes(net) => {
                let (logits, tape) = net.forward(images, observe);
                Passed {
                    logits,
                    distance: net.distance(&tape),
                    back: Back::Passes(Rc::clone(net), tape),
                }
            }
            Self::Operations(net) => {
                let (logits, tape) = net.forward(images, observe);
                Passed {
                    logits,
                    distance: net.distance(&tape),
                    back: Back::Operations(Rc::clone(net), tape),
                }
            }
        }
    }

    /// Logits f32 [N,classes] of `images` f32 [N,C,H,W], without a graph.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        match self {
            Self::Passes(net) => net.predict(images),
            Self::Operations(net) => net.predict(images),
        }
    }
}

impl Back {
    /// Gradient f32 [N,H,W,C] with respect to the images, of a loss whose gradient with respect to
    /// the logits is `logits` [N,classes], plus `by` times the distance.
    pub fn images(self, logits: &Tensor, by: f64) -> Tensor {
        match self {
            Self::Passes(net, tape) => net.backward(tape, logits, by),
            Self::Operations(net, tape) => net.backward(tape, logits, by),
        }
    }
}

/// All batch norms in module order.
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
