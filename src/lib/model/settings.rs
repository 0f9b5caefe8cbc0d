//! Describes a model: the part of the config that names an architecture, and the complete shape
//! that is saved with weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Architectures of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// CIFAR ResNet-18 of basic blocks (He et al. 2016, arXiv:1512.03385, with a 3×3 stem), blocks
    /// `[2,2,2,2]`.
    Resnet18,
    /// The same with blocks `[3,4,6,3]`.
    Resnet34,
    /// Bottleneck blocks `[3,4,6,3]`, expansion 4.
    Resnet50,
    /// Wide residual network of depth 16 without widening (Zagoruyko and Komodakis 2016,
    /// arXiv:1605.07146): 175,066 parameters at 3×32×32 and 10 classes.
    Wrn16_1,
    /// The same of depth 40: 563,930 parameters.
    Wrn40_1,
    /// LeNet-5 (LeCun et al. 1998).
    Lenet5,
    /// The same without any padding, as PyTorch's CIFAR-10 tutorial has it: 62,006 parameters at
    /// 3×32×32 and 10 classes.
    Lenet5Unpadded,
    /// The five-layer CNN of the one-shot federated learning literature, of 128 channels.
    Cnn5,
    /// The smaller of DENSE's two CNNs (Zhang et al. 2022, arXiv:2112.12371), of up to 64 channels:
    /// 122,570 parameters at 3×32×32 and 10 classes.
    Cnn64,
    /// The MNIST CNN of McMahan et al. 2017 (arXiv:1602.05629): 1,663,370 parameters at 1×28×28 and
    /// 10 classes.
    FedavgCnn,
    /// The network of PyTorch's and Keras's MNIST examples, with dropout: 1,199,882 parameters at
    /// 1×28×28 and 10 classes.
    MnistCnn,
    /// Softmax regression: one linear layer on the pixels, 7,850 parameters at 1×28×28 and 10
    /// classes.
    Linear,
}

/// Holds the settings of an architecture. Those that spell out a default are equal to those that
/// leave it out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Which network.
    pub kind: ModelKind,
    /// Channels of a ResNet's first stage; stage i has `width`·2^i. `None` (`null` in a config)
    /// stands for 64. Other kinds take no width.
    #[schemars(range(min = 1))]
    #[schemars(extend("x-read-by" = ["resnet18", "resnet34", "resnet50"]))]
    pub width: Option<i64>,
    /// Blocks in each stage of a ResNet; `None` (`null`) stands for those of its name. Other kinds
    /// take none.
    #[schemars(extend("minimum" = 1))]
    #[schemars(extend("x-read-by" = ["resnet18", "resnet34", "resnet50"]))]
    pub blocks: Option<Vec<i64>>,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            kind: ModelKind::Resnet18,
            width: None,
            blocks: None,
        }
    }
}

/// A complete architecture: settings plus the shape of its input and output. Saved as JSON in the
/// metadata of every weights file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    pub model: ModelSettings,
    /// Image channels, 1 or 3.
    pub channels: i64,
    /// Image height and width in pixels, at least 8.
    pub size: i64,
    /// Classes, the length of a row of logits.
    pub classes: i64,
}
