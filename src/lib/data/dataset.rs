//! A whole dataset in memory: both splits as u8 tensors on the device, and the constants that normalise them.

use tch::Tensor;

/// One split. `images` is u8 [M,C,H,W] on the device; `labels` is i64 [M] on the device.
#[derive(Debug)]
pub struct ImageSet {
    pub images: Tensor,
    pub labels: Tensor,
    /// The labels again, on the host, for partitioning and counting.
    pub label_list: Vec<i64>,
}

/// Per-channel constants: a pixel p in 0..255 becomes (p/255 − mean)/std.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalisation {
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
}

/// Training and test split of one set.
#[derive(Debug)]
pub struct Dataset {
    /// As in the config: `digits`, `mnist`, …
    pub name: String,
    /// Class names in label order.
    pub classes: Vec<String>,
    pub train: ImageSet,
    pub test: ImageSet,
    pub normalisation: Normalisation,
    /// SHA-256 over shapes, pixels and labels of both splits: what a split file or a teacher belongs to.
    pub fingerprint: String,
}
