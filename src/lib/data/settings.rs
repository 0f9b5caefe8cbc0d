//! Config group `dataset`: which images, from where, at what size.

use crate::setting::{FilePath, Free};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Formats and sets that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatasetKind {
    /// 1,797 handwritten digits of 8×8 pixels, embedded in the binary (Alpaydin and Kaynak 1998, CC
    /// BY 4.0).
    Digits,
    Mnist,
    FashionMnist,
    Kmnist,
    Cifar10,
    Cifar100,
    /// `train/CLASS/*.{png,jpg}` and `test/CLASS/…`, as a folder or a `.tar`, `.tar.gz`,
    /// `.tar.zst`.
    ImageFolder,
}

impl DatasetKind {
    /// As in the config: `digits`, `fashion_mnist`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion_mnist",
            Self::Kmnist => "kmnist",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::ImageFolder => "image_folder",
        }
    }
}

/// Config group `dataset`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetSettings {
    pub kind: DatasetKind,
    /// Folder that holds the set's files (for `image_folder` the folder or archive itself). Not
    /// used by `digits`.
    pub root: Option<FilePath>,
    /// Height and width in pixels to resize to; `null` keeps the files' own (16 for `digits`).
    #[schemars(range(min = 8))]
    pub size: Option<i64>,
    /// 1 or 3 to convert; `null` keeps the files' own.
    #[schemars(extend("enum" = [1, 3, null]))]
    pub channels: Option<i64>,
    /// Fetch a missing set from its official place.
    pub download: Free<bool>,
    /// Per-channel mean of pixels scaled to 0..1; `null` computes it from the training split.
    pub mean: Option<Vec<f64>>,
    /// Per-channel standard deviation, likewise.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub std: Option<Vec<f64>>,
    /// Keep only this many training images, a stratified choice by file order; `null` keeps all.
    #[schemars(range(min = 1))]
    pub max_train: Option<usize>,
    /// The same for test images.
    #[schemars(range(min = 1))]
    pub max_test: Option<usize>,
}

impl Default for DatasetSettings {
    fn default() -> Self {
        Self {
            kind: DatasetKind::Digits,
            root: None,
            size: None,
            channels: None,
            download: true.into(),
            mean: None,
            std: None,
            max_train: None,
            max_test: None,
        }
    }
}
