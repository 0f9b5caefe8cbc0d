//! Settings of [`load`](super::load): which dataset, from which files, at what size.

use crate::setting::{FilePath, Free};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names the datasets and formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatasetKind {
    /// 1,797 handwritten digits of 8×8 pixels, embedded in the program (Alpaydin and Kaynak 1998,
    /// CC BY 4.0).
    Digits,
    /// MNIST, 28×28 (LeCun et al. 1998).
    Mnist,
    /// Fashion-MNIST, 28×28 (Xiao et al. 2017, arXiv:1708.07747).
    FashionMnist,
    /// Kuzushiji-MNIST, 28×28 (Clanuwat et al. 2018, arXiv:1812.01718).
    Kmnist,
    /// CIFAR-10, 3×32×32 (Krizhevsky 2009).
    Cifar10,
    /// CIFAR-100, 3×32×32, with its 100 fine labels (Krizhevsky 2009).
    Cifar100,
    /// Images (PNG, JPEG, WebP, BMP, GIF, TIFF) in `train/CLASS/…` and `test/CLASS/…`, or in
    /// `CLASS/…` with `test_share`, as a folder or an archive (`.tar`, also
    /// compressed, or `.zip`).
    ImageFolder,
    /// No images: at a server that has none. Classes, size and normalisation are then those of the
    /// teachers, or are given.
    None,
}

/// Writes the name that serde writes: `digits`, `fashion_mnist`, …
impl fmt::Display for DatasetKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(out)
    }
}

/// Selects which dataset [`load`](super::load) reads and what it makes of it; the config group
/// `dataset` has these fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetSettings {
    /// Dataset or format.
    pub kind: DatasetKind,
    /// Folder that holds the set's files (for `image_folder` the folder or archive itself). Not
    /// used by `digits`.
    #[schemars(extend("x-unread-by" = ["digits", "none"]))]
    pub root: Option<FilePath>,
    /// Height and width in pixels to resize to; `None` keeps the files' own; the 8×8
    /// pixels of `digits` become 16×16.
    #[schemars(range(min = 8))]
    pub size: Option<i64>,
    /// Channels to convert to, 1 or 3; `None` keeps the files' own.
    #[schemars(extend("enum" = [1, 3, null]))]
    pub channels: Option<i64>,
    /// Class names in label order, so that parties which lack images of a class have the same
    /// labels; each class of the images must be among them. `None` takes the set's own.
    pub classes: Option<Vec<String>>,
    /// Number of classes, where there are no images and `classes` does not name them.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[schemars(extend("x-read-by" = ["none"]))]
    pub num_classes: Option<usize>,
    /// Downloads the official files of a set that are missing in `root`.
    #[schemars(extend("x-unread-by" = ["none"]))]
    pub download: Free<bool>,
    /// Mean of each channel, of pixels scaled to 0..1; `None` computes it from the training split,
    /// or from the test split where there are no images for training.
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel, of pixels scaled to 0..1; `None` computes it from the
    /// training split.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub std: Option<Vec<f64>>,
    /// Number of training images to keep: the first of each class in file order, in proportion to
    /// the classes' sizes; `None` keeps all.
    #[schemars(range(min = 1))]
    #[schemars(extend("x-unread-by" = ["none"]))]
    pub max_train: Option<usize>,
    /// Number of test images to keep, chosen likewise; `None` keeps all.
    #[schemars(range(min = 1))]
    #[schemars(extend("x-unread-by" = ["none"]))]
    pub max_test: Option<usize>,
    /// Share of each class of training images that becomes test images, above 0, for image folders
    /// without test images (which are not used if they are there); 1 makes all of them test images,
    /// for a server that trains on none; `None` takes `test/CLASS/…`, or else `val/CLASS/…`.
    #[schemars(range(min = 0, max = 1))]
    #[schemars(extend("x-read-by" = ["image_folder"]))]
    pub test_share: Option<f64>,
    /// Seed by which `test_share` draws.
    #[schemars(extend("x-read-by" = ["image_folder"]))]
    pub test_seed: u64,
    /// Leaves out images that cannot be read; otherwise they are an error.
    #[schemars(extend("x-read-by" = ["image_folder"]))]
    pub skip_broken: bool,
}

impl Default for DatasetSettings {
    fn default() -> Self {
        Self {
            kind: DatasetKind::Digits,
            root: None,
            size: None,
            channels: None,
            classes: None,
            num_classes: None,
            download: true.into(),
            mean: None,
            std: None,
            max_train: None,
            max_test: None,
            test_share: None,
            test_seed: 0,
            skip_broken: false,
        }
    }
}
