//! Defines wide residual networks (Zagoruyko and Komodakis 2016, arXiv:1605.07146) without
//! widening: a 3×3 stem of 16 channels, three stages of 16, 32 and 64 channels with stride 2 from
//! the second on, each of (depth − 4) / 6 blocks, then batch norm, ReLU, the mean over the
//! remaining height and width, and one linear layer.
//!
//! Batch norm and ReLU stand before each convolution (He et al. 2016, arXiv:1603.05027), so that
//! the fused passes, which are those of post-activation networks, do not apply. Where a block
//! changes the number of channels, its 1×1 shortcut takes the activated input.
//!
//! Names are those of DENSE's and of the usual PyTorch code (`block1.layer.0.conv1.weight`,
//! `block2.layer.0.convShortcut.weight`, `bn1.bias`, `fc.weight`). Deviations: weights begin as
//! PyTorch initialises layers, not as in the paper, and there is no dropout (the paper's rate is
//! zero unless it says otherwise).

use super::builder::Builder;
use super::layers::{BatchNorm, Conv, Linear, Pass, Window};
use super::network::Network;
use super::settings::ModelSpec;
use crate::Result;
use tch::{Kind, Tensor};

/// Channels of the stem and of the three stages.
const CHANNELS: [i64; 4] = [16, 16, 32, 64];

/// Holds a block: two times batch norm, ReLU and a 3×3 convolution, plus the shortcut.
struct Block {
    layers: [(BatchNorm, Conv); 2],
    /// A 1×1 convolution of the activated input where the channels differ; otherwise the input
    /// itself is added.
    shortcut: Option<Conv>,
}

impl Block {
    /// Registers a block under `path`; `channels` is (in, out).
    fn new(builder: &mut Builder, path: &str, channels: (i64, i64), stride: i64) -> Result<Self> {
        let mut layer = |index: usize, (inputs, outputs): (i64, i64), stride| {
            let norm = BatchNorm::new(builder, &format!("{path}.bn{index}"), inputs)?;
            let path = format!("{path}.conv{index}");
            let conv = convolution(builder, &path, (inputs, outputs), 3, stride)?;
            Ok::<_, crate::Error>((norm, conv))
        };
        let outputs = channels.1;
        let layers = [
            layer(1, channels, stride)?,
            layer(2, (outputs, outputs), 1)?,
        ];
        let path = format!("{path}.convShortcut");
        let shortcut = (channels.0 != outputs)
            .then(|| convolution(builder, &path, channels, 1, stride))
            .transpose()?;
        Ok(Self { layers, shortcut })
    }

    /// Applies the block to `input` [N,C,H,W].
    fn forward(&self, input: &Tensor, pass: &mut Pass) -> Tensor {
        let [(first_norm, first), (second_norm, second)] = &self.layers;
        let active = first_norm.forward(input, pass).relu_();
        let hidden = second_norm.forward(&first.forward(&active), pass).relu_();
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(&active),
            None => input.shallow_clone(),
        };
        second.forward(&hidden).g_add_(&shortcut)
    }
}

/// Registers a convolution without bias; `kernel` is odd, and padded so that stride 1 keeps the
/// size.
fn convolution(
    builder: &mut Builder,
    path: &str,
    channels: (i64, i64),
    kernel: i64,
    stride: i64,
) -> Result<Conv> {
    let window = Window {
        kernel,
        stride,
        padding: kernel / 2,
    };
    Conv::new(builder, path, channels, window, false)
}

/// Holds the layers of a wide residual network.
pub(super) struct WideResNet {
    stem: Conv,
    blocks: Vec<Block>,
    norm: BatchNorm,
    linear: Linear,
}

impl WideResNet {
    /// Registers the layers of a network of `depth` convolutions, 6n + 4, shortcuts not counted.
    pub fn new(spec: &ModelSpec, builder: &mut Builder, depth: usize) -> Result<Self> {
        let [width, .., last] = CHANNELS;
        let stem = convolution(builder, "conv1", (spec.channels, width), 3, 1)?;
        let mut blocks = Vec::new();
        for (stage, channels) in CHANNELS.windows(2).enumerate() {
            for i in 0..(depth - 4) / 6 {
                let path = format!("block{}.layer.{i}", stage + 1);
                let first = i == 0;
                let inputs = if first { channels[0] } else { channels[1] };
                let stride = if first && stage > 0 { 2 } else { 1 };
                blocks.push(Block::new(builder, &path, (inputs, channels[1]), stride)?);
            }
        }
        Ok(Self {
            stem,
            blocks,
            norm: BatchNorm::new(builder, "bn1", last)?,
            linear: Linear::new(builder, "fc", last, spec.classes)?,
        })
    }
}

impl Network for WideResNet {
    fn features(&self, images: &Tensor, pass: &mut Pass) -> Tensor {
        let mut hidden = self.stem.forward(images);
        for block in &self.blocks {
            hidden = block.forward(&hidden, pass);
        }
        let active = self.norm.forward(&hidden, pass).relu_();
        active.mean_dim([2i64, 3].as_slice(), false, Kind::Float)
    }

    fn classify(&self, features: &Tensor) -> Tensor {
        self.linear.forward(features)
    }
}
