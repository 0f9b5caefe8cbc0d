//! Defines what the networks without batch norm have in common: convolutions with ReLU and optional
//! 2×2 max pooling, then linear layers with ReLU between them, and in some dropout.

mod ffi;
mod first;
mod frozen;
mod lanes;

pub use frozen::{FrozenStack, StackTape};

use super::builder::Builder;
use super::dropout::Masks;
use super::layers::{Conv, Linear, Pass, Window};
use super::network::Network;
use super::settings::ModelSpec;
use crate::Result;
use tch::{Kind, Tensor};

/// Describes one convolution of stride 1.
pub(super) struct Stage {
    /// Output channels.
    pub channels: i64,
    /// Height and width of the kernel in pixels.
    pub kernel: i64,
    /// Zero padding in pixels.
    pub padding: i64,
    /// `true` when 2×2 max pooling of stride 2 follows, which drops an odd last row and column.
    pub pool: bool,
}

/// Holds the shares that are dropped in training, in 256ths.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Dropout {
    /// Of what the convolutions give.
    pub features: u8,
    /// Of what each hidden linear layer gives.
    pub hidden: u8,
}

/// Describes a layer for who computes the network without libtorch's operations.
#[derive(Debug)]
pub(crate) struct StackLayer {
    /// Channels, and height and width, of the input; a linear layer has 1×1 pixels.
    pub inputs: i64,
    pub size: i64,
    /// A convolution, and no linear layer.
    pub pixels: bool,
    /// Weight [O,I,k,k] and bias [O].
    pub weight: Tensor,
    pub bias: Tensor,
    pub padding: i64,
    /// 2×2 max pooling, and ReLU, follow.
    pub pool: bool,
    pub relu: bool,
}

impl StackLayer {
    /// Copies the weights, out of autograd.
    pub fn frozen(self) -> Self {
        Self {
            weight: self.weight.detach().copy(),
            bias: self.bias.detach().copy(),
            ..self
        }
    }

    /// Computes the layer by libtorch's operations, of maps [N,I,H,W] or [N,F].
    pub fn forward(&self, maps: &Tensor) -> Tensor {
        let mut output = match self.pixels {
            true => maps.conv2d(&self.weight, Some(&self.bias), 1, self.padding, 1, 1),
            false => {
                let weight = self.weight.flatten(1, -1);
                maps.flatten(1, -1).linear(&weight, Some(&self.bias))
            }
        };
        if self.pool {
            output = halved(&output);
        }
        if self.relu { output.relu_() } else { output }
    }
}

/// Returns the largest values of 2×2 pixels. Before ReLU, which commutes with it and then has a
/// quarter of the work.
fn halved(maps: &Tensor) -> Tensor {
    maps.max_pool2d(2, 2, 0, 1, false)
}

/// Holds a convolution, which ReLU follows.
struct StackConv {
    conv: Conv,
    /// Height and width of its input.
    size: i64,
    /// 2×2 max pooling follows too.
    pool: bool,
}

/// Holds the layers `conv1`, `conv2`, … and `fc1`, `fc2`, …
pub(crate) struct Stack {
    convs: Vec<StackConv>,
    /// Linear layers that are each followed by a ReLU.
    hidden: Vec<Linear>,
    last: Linear,
    dropout: Dropout,
}

impl Stack {
    /// Registers the layers; `hidden` lists the outputs of the linear layers before the last.
    pub(super) fn new(
        spec: &ModelSpec,
        builder: &mut Builder,
        stages: &[Stage],
        hidden: &[i64],
    ) -> Result<Self> {
        let (mut channels, mut size, mut convs) = (spec.channels, spec.size, Vec::new());
        for (i, stage) in stages.iter().enumerate() {
            let window = Window {
                kernel: stage.kernel,
                stride: 1,
                padding: stage.padding,
            };
            let path = format!("conv{}", i + 1);
            let conv = Conv::new(builder, &path, (channels, stage.channels), window, true)?;
            let pool = stage.pool;
            convs.push(StackConv { conv, size, pool });
            channels = stage.channels;
            size += 2 * stage.padding - stage.kernel + 1;
            size = if pool { size / 2 } else { size };
        }
        let mut inputs = channels * size * size;
        let mut linears = Vec::new();
        for (i, &outputs) in hidden.iter().enumerate() {
            linears.push(Linear::new(
                builder,
                &format!("fc{}", i + 1),
                inputs,
                outputs,
            )?);
            inputs = outputs;
        }
        let last = Linear::new(
            builder,
            &format!("fc{}", hidden.len() + 1),
            inputs,
            spec.classes,
        )?;
        Ok(Self {
            convs,
            hidden: linears,
            last,
            dropout: Dropout::default(),
        })
    }

    /// Returns the layers in order, without dropout.
    pub(crate) fn layers(&self) -> Vec<StackLayer> {
        let convs = self
            .convs
            .iter()
            .map(|StackConv { conv, size, pool }| StackLayer {
                inputs: conv.weight.size()[1],
                size: *size,
                pixels: true,
                weight: conv.weight.shallow_clone(),
                bias: conv.bias_or_zero(),
                padding: conv.window.padding,
                pool: *pool,
                relu: true,
            });
        let hidden = self.hidden.iter().map(|linear| (linear, true));
        let linears = hidden.chain([(&self.last, false)]);
        let linears = linears.map(|(Linear { weight, bias }, relu)| StackLayer {
            inputs: weight.size()[1],
            size: 1,
            pixels: false,
            weight: weight.unsqueeze(2).unsqueeze(3),
            bias: bias.shallow_clone(),
            padding: 0,
            pool: false,
            relu,
        });
        convs.chain(linears).collect()
    }

    /// Maps what the convolutions give [N,F] to the input of the last linear layer, f32.
    fn hidden(&self, maps: &Tensor, masks: Masks) -> Tensor {
        let mut hidden = masks.drop(0, self.dropout.features, maps.shallow_clone());
        for (layer, linear) in (1..).zip(&self.hidden) {
            let output = linear.forward(&hidden).relu_();
            hidden = masks.drop(layer, self.dropout.hidden, output);
        }
        hidden.to_kind(Kind::Float)
    }

    /// Maps what the first `depth` convolutions give, [N,O,h,w] or, of all, [N,F] too, to logits.
    pub(super) fn after(&self, depth: usize, maps: &Tensor, masks: Masks) -> Tensor {
        self.classify(&self.features_after(depth, maps, masks))
    }

    /// Maps it to the input of the last linear layer, f32 [N,F].
    fn features_after(&self, depth: usize, maps: &Tensor, masks: Masks) -> Tensor {
        let mut maps = maps.shallow_clone();
        for StackConv { conv, pool, .. } in &self.convs[depth..] {
            maps = conv.forward(&maps);
            maps = if *pool { halved(&maps) } else { maps };
            maps = maps.relu_();
        }
        self.hidden(&maps.flatten(1, -1), masks)
    }

    /// Adds dropout.
    pub(super) fn with_dropout(self, dropout: Dropout) -> Self {
        Self { dropout, ..self }
    }
}

impl Network for Stack {
    /// Computes the same in every pass, but for dropout in training: there is no batch norm.
    fn features(&self, images: &Tensor, pass: &mut Pass) -> Tensor {
        let masks = match pass {
            Pass::Train(masks) => *masks,
            _ => Masks::default(),
        };
        self.features_after(0, images, masks)
    }

    fn classify(&self, features: &Tensor) -> Tensor {
        self.last.forward(features)
    }

    fn stack(&self) -> Option<&Stack> {
        Some(self)
    }

    fn drops(&self) -> bool {
        self.dropout != Dropout::default()
    }
}
