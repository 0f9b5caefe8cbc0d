//! Holds the choice of a partitioner: its name, and the settings of its own.

use super::{
    Dirichlet, DirichletEqual, Iid, Partitioner, Pathological, QuantitySkew, QuantitySkewSettings,
    RandomEqual, RandomUnequal, Shards, Skewed, UniformPerClass, UniformShare,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Chooses a partitioner with its settings; `kind` names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PartitionSettings {
    /// Deals a share evenly and the rest by class.
    UniformShare(UniformShare),
    /// Deals at random and evenly.
    Iid(Iid),
    /// Deals each class in Dirichlet proportions.
    Dirichlet(Dirichlet),
    /// Draws a Dirichlet mix of classes for each node, at equal sizes.
    DirichletEqual(DirichletEqual),
    /// Deals shards of images sorted by class.
    Shards(Shards),
    /// Gives each node the same number of classes.
    Pathological(Pathological),
    /// Gives nodes the same mix of classes at random sizes.
    QuantitySkew(QuantitySkewSettings),
    /// Gives each node the same number of images of each class.
    UniformPerClass(UniformPerClass),
    /// Gives each node the same number of random images.
    RandomEqual(RandomEqual),
    /// Gives each node a random number of random images.
    RandomUnequal(RandomUnequal),
    /// Gives each node many images of some classes and few of the others.
    Skewed(Skewed),
}

impl Default for PartitionSettings {
    fn default() -> Self {
        Self::UniformShare(UniformShare::default())
    }
}

impl PartitionSettings {
    /// Returns the number of nodes that images are dealt to.
    pub fn nodes(&self) -> usize {
        match self {
            Self::UniformShare(settings) => settings.nodes,
            Self::Iid(settings) => settings.nodes,
            Self::Dirichlet(settings) => settings.nodes,
            Self::DirichletEqual(settings) => settings.nodes,
            Self::Shards(settings) => settings.nodes,
            Self::Pathological(settings) => settings.nodes,
            Self::UniformPerClass(settings) => settings.nodes,
            Self::RandomEqual(settings) => settings.nodes,
            Self::RandomUnequal(settings) => settings.nodes,
            Self::Skewed(settings) => settings.nodes,
            Self::QuantitySkew(settings) => settings.nodes,
        }
    }

    /// Returns the partitioner.
    pub fn partitioner(&self) -> Box<dyn Partitioner> {
        match *self {
            Self::UniformShare(partitioner) => Box::new(partitioner),
            Self::Iid(partitioner) => Box::new(partitioner),
            Self::Dirichlet(partitioner) => Box::new(partitioner),
            Self::DirichletEqual(partitioner) => Box::new(partitioner),
            Self::Shards(partitioner) => Box::new(partitioner),
            Self::Pathological(partitioner) => Box::new(partitioner),
            Self::UniformPerClass(partitioner) => Box::new(partitioner),
            Self::RandomEqual(partitioner) => Box::new(partitioner),
            Self::RandomUnequal(partitioner) => Box::new(partitioner),
            Self::Skewed(partitioner) => Box::new(partitioner),
            Self::QuantitySkew(settings) => Box::new(QuantitySkew::from(settings)),
        }
    }
}
