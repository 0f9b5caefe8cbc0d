//! Defines the types that a network's convolutions can be computed in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

/// Selects a [`Precision`], possibly by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrecisionChoice {
    /// `bf16` on CUDA, `f32` elsewhere.
    Auto,
    /// float32 on every device.
    F32,
    /// bfloat16 on every device.
    Bf16,
}

/// Selects the type of the activations, of the images that convolutions are given, and of the
/// convolutions' weights. Batch-norm statistics, logits, losses, master weights and the state of
/// optimisers are float32 in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// float32. On CUDA libtorch's default lets convolutions round to TF32 (10 bits of mantissa)
    /// and keeps matrix products in full float32.
    #[default]
    F32,
    /// bfloat16: float32's exponent with 8 bits of precision.
    Bf16,
}

impl PrecisionChoice {
    /// Returns the precision that the choice means on `device`.
    pub fn on(self, device: Device) -> Precision {
        match (self, device) {
            (Self::Bf16, _) | (Self::Auto, Device::Cuda(_)) => Precision::Bf16,
            (Self::F32 | Self::Auto, _) => Precision::F32,
        }
    }
}

impl Precision {
    /// Returns the type of the tensors.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

impl From<Precision> for PrecisionChoice {
    /// Returns the choice that means this precision on every device.
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}
