//! Config group `split`: how images are dealt to nodes.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Partitioners; `partition` has one file for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    UniformShare,
    Iid,
    Dirichlet,
    DirichletEqual,
    Shards,
    Pathological,
    QuantitySkew,
    UniformPerClass,
    RandomEqual,
    RandomUnequal,
    Skewed,
}

impl SplitKind {
    pub const ALL: [Self; 11] = [
        Self::UniformShare,
        Self::Iid,
        Self::Dirichlet,
        Self::DirichletEqual,
        Self::Shards,
        Self::Pathological,
        Self::QuantitySkew,
        Self::UniformPerClass,
        Self::RandomEqual,
        Self::RandomUnequal,
        Self::Skewed,
    ];

    /// As in the config: `uniform_share`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::UniformShare => "uniform_share",
            Self::Iid => "iid",
            Self::Dirichlet => "dirichlet",
            Self::DirichletEqual => "dirichlet_equal",
            Self::Shards => "shards",
            Self::Pathological => "pathological",
            Self::QuantitySkew => "quantity_skew",
            Self::UniformPerClass => "uniform_per_class",
            Self::RandomEqual => "random_equal",
            Self::RandomUnequal => "random_unequal",
            Self::Skewed => "skewed",
        }
    }

    /// The keys of the group that this kind reads, beside `kind`, `num_nodes` and `save_path`.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::UniformShare => &["unif_percentage"],
            Self::Iid => &[],
            Self::Dirichlet => &["alpha", "min_size"],
            Self::DirichletEqual => &["alpha"],
            Self::Shards => &["shards_per_node"],
            Self::Pathological => &["classes_per_node"],
            Self::QuantitySkew => &["sizes", "alpha", "sigma", "min_size"],
            Self::UniformPerClass => &["images_per_class"],
            Self::RandomEqual => &["images_per_node"],
            Self::RandomUnequal => &["min_size"],
            Self::Skewed => &["classes_per_node", "major_images", "minor_images"],
        }
    }
}

/// `split.sizes`: the law of the nodes' sizes under quantity skew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeLaw {
    /// Shares from Dirichlet(`alpha`).
    Dirichlet,
    /// In proportion to exp(`sigma`·z), z standard normal.
    LogNormal,
}

/// Config group `split`. A key that its `kind` does not read is a mistake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    pub kind: SplitKind,
    /// Parties to deal the images to.
    pub num_nodes: usize,
    /// Share of the images (0..1) dealt evenly at random; the rest is sorted by class and cut into
    /// runs.
    pub unif_percentage: f64,
    /// Dirichlet concentration: small is uneven, large even. `null`: 0.5.
    pub alpha: Option<f64>,
    /// Training images each node must have. `null`: 10.
    pub min_size: Option<usize>,
    /// Runs of images sorted by class that each node gets. `null`: 2.
    pub shards_per_node: Option<usize>,
    /// Classes a node holds (`pathological`), or holds many images of (`skewed`). `null`: 2.
    pub classes_per_node: Option<usize>,
    /// `null`: `dirichlet`.
    pub sizes: Option<SizeLaw>,
    /// Standard deviation of the logarithms of log-normal sizes. `null`: 0.5.
    pub sigma: Option<f64>,
    /// Images of each class for each node. `null`: all there are, dealt evenly.
    pub images_per_class: Option<usize>,
    /// Images for each node. `null`: all there are, dealt evenly.
    pub images_per_node: Option<usize>,
    /// Smallest and largest number of images of each of a node's `classes_per_node`. `null`: 60 to
    /// 110.
    pub major_images: Option<[usize; 2]>,
    /// The same for each other class. `null`: 1 to 10.
    pub minor_images: Option<[usize; 2]>,
    /// The split's JSON file; `null`: no split, one teacher on everything.
    pub save_path: Option<PathBuf>,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            kind: SplitKind::UniformShare,
            num_nodes: 1,
            unif_percentage: 1.0,
            alpha: None,
            min_size: None,
            shards_per_node: None,
            classes_per_node: None,
            sizes: None,
            sigma: None,
            images_per_class: None,
            images_per_node: None,
            major_images: None,
            minor_images: None,
            save_path: None,
        }
    }
}
