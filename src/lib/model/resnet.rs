//! Defines CIFAR ResNets (He et al. 2016, arXiv:1512.03385): a 3×3 stem of stride 1 without
//! pooling, stages of width·2^i channels with stride 2 from the second on, the mean over the
//! remaining height and width, and one linear layer.
//!
//! ResNet-18 and -34 stack basic blocks, ResNet-50 bottlenecks that widen four times. Names are
//! those of the DAFL release (`layer1.0.conv1.weight`, `layer2.0.shortcut.1.running_var`,
//! `linear.bias`).

use super::builder::Builder;
use super::layers::{BatchNorm, Conv, Linear, Pass, Window};
use super::network::Network;
use super::settings::{ModelKind, ModelSpec};
use crate::Result;
use tch::{Kind, Tensor};

/// Ratio of a bottleneck's output channels to those of its 3×3 convolution.
const EXPANSION: i64 = 4;

/// Holds a convolution without bias and the batch norm that follows it.
pub struct ConvNorm {
    pub(crate) conv: Conv,
    pub(crate) norm: BatchNorm,
}

impl ConvNorm {
    /// Registers a convolution and a norm under the paths `names`; `kernel` is odd, and padded so
    /// that stride 1 keeps the size.
    fn new(
        builder: &mut Builder,
        names: [&str; 2],
        channels: (i64, i64),
        kernel: i64,
        stride: i64,
    ) -> Result<Self> {
        let window = Window {
            kernel,
            stride,
            padding: kernel / 2,
        };
        let conv = Conv::new(builder, names[0], channels, window, false)?;
        let norm = BatchNorm::new(builder, names[1], channels.1)?;
        Ok(Self { conv, norm })
    }

    /// Applies the convolution and the norm.
    fn forward(&self, input: &Tensor, pass: &mut Pass) -> Tensor {
        self.norm.forward(&self.conv.forward(input), pass)
    }
}

/// Holds a residual block: convolutions with a ReLU between each two, plus the shortcut, and then
/// a ReLU.
pub struct Block {
    pub(crate) body: Vec<ConvNorm>,
    /// A 1×1 convolution where stride or channels differ; otherwise the input itself.
    pub(crate) shortcut: Option<ConvNorm>,
}

impl Block {
    /// Registers a block under `path`; `layers` lists (output channels, kernel, stride) of the
    /// body.
    fn new(
        builder: &mut Builder,
        path: &str,
        inputs: i64,
        layers: &[(i64, i64, i64)],
    ) -> Result<Self> {
        let (mut channels, mut stride, mut body) = (inputs, 1, Vec::new());
        for (i, &(outputs, kernel, layer_stride)) in layers.iter().enumerate() {
            let names = [
                &*format!("{path}.conv{}", i + 1),
                &*format!("{path}.bn{}", i + 1),
            ];
            body.push(ConvNorm::new(
                builder,
                names,
                (channels, outputs),
                kernel,
                layer_stride,
            )?);
            (channels, stride) = (outputs, stride * layer_stride);
        }
        let shortcut = if stride != 1 || channels != inputs {
            let names = [
                &*format!("{path}.shortcut.0"),
                &*format!("{path}.shortcut.1"),
            ];
            Some(ConvNorm::new(
                builder,
                names,
                (inputs, channels),
                1,
                stride,
            )?)
        } else {
            None
        };
        Ok(Self { body, shortcut })
    }

    /// Applies the block to `input` [N,C,H,W].
    fn forward(&self, input: &Tensor, pass: &mut Pass) -> Tensor {
        let mut hidden = input.shallow_clone();
        for (i, layer) in self.body.iter().enumerate() {
            // In place where autograd allows: batch norm's backward reads its input, not its
            // output.
            hidden = if i == 0 { hidden } else { hidden.relu_() };
            hidden = layer.forward(&hidden, pass);
        }
        let shortcut = match &self.shortcut {
            Some(layer) => layer.forward(input, pass),
            None => input.shallow_clone(),
        };
        hidden.g_add_(&shortcut).relu_()
    }
}

/// Holds the layers of a residual network. The fused inversion engine reads them instead of calling
/// [`Model::forward`](super::Model::forward).
pub struct ResNet {
    pub(crate) stem: ConvNorm,
    pub(crate) blocks: Vec<Block>,
    pub(crate) linear: Linear,
}

impl ResNet {
    /// Registers the layers of `spec`.
    pub(super) fn new(spec: &ModelSpec, builder: &mut Builder) -> Result<Self> {
        let width = spec.model.width();
        let bottleneck = spec.model.kind == ModelKind::Resnet50;
        let stem = ConvNorm::new(builder, ["conv1", "bn1"], (spec.channels, width), 3, 1)?;
        let (mut channels, mut blocks) = (width, Vec::new());
        for (stage, &count) in spec.model.blocks().iter().enumerate() {
            let inner = width << stage;
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let layers = match bottleneck {
                    true => vec![(inner, 1, 1), (inner, 3, stride), (inner * EXPANSION, 1, 1)],
                    false => vec![(inner, 3, stride), (inner, 3, 1)],
                };
                let path = format!("layer{}.{i}", stage + 1);
                blocks.push(Block::new(builder, &path, channels, &layers)?);
                channels = if bottleneck { inner * EXPANSION } else { inner };
            }
        }
        let linear = Linear::new(builder, "linear", channels, spec.classes)?;
        Ok(Self {
            stem,
            blocks,
            linear,
        })
    }
}

impl Network for ResNet {
    fn features(&self, images: &Tensor, pass: &mut Pass) -> Tensor {
        let mut hidden = self.stem.forward(images, pass).relu_();
        for block in &self.blocks {
            hidden = block.forward(&hidden, pass);
        }
        hidden.mean_dim([2i64, 3].as_slice(), false, Kind::Float)
    }

    fn classify(&self, features: &Tensor) -> Tensor {
        self.linear.forward(features)
    }

    fn residual(&self) -> Option<&ResNet> {
        Some(self)
    }
}
