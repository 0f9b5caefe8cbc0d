//! From config group `split` to the partitioner it names.

use crate::config::schema::{SizeLaw, SplitConfig, SplitKind};
use crate::partition::{
    Dirichlet, DirichletEqual, Iid, Partitioner, Pathological, QuantitySkew, RandomEqual,
    RandomUnequal, Shards, Sizes, Skewed, UniformPerClass, UniformShare,
};

/// The partitioner, with the schema's defaults for what is `null`.
pub fn partitioner(config: &SplitConfig) -> Box<dyn Partitioner> {
    let nodes = config.num_nodes;
    let alpha = config.alpha.unwrap_or(0.5);
    let min_size = config.min_size.unwrap_or(10);
    let classes_per_node = config.classes_per_node.unwrap_or(2);
    match config.kind {
        SplitKind::UniformShare => Box::new(UniformShare {
            nodes,
            share: config.unif_percentage,
        }),
        SplitKind::Iid => Box::new(Iid { nodes }),
        SplitKind::Dirichlet => Box::new(Dirichlet {
            nodes,
            alpha,
            min_size,
        }),
        SplitKind::DirichletEqual => Box::new(DirichletEqual { nodes, alpha }),
        SplitKind::Shards => Box::new(Shards {
            nodes,
            per_node: config.shards_per_node.unwrap_or(2),
        }),
        SplitKind::Pathological => Box::new(Pathological {
            nodes,
            classes_per_node,
        }),
        SplitKind::QuantitySkew => Box::new(QuantitySkew {
            nodes,
            sizes: match config.sizes.unwrap_or(SizeLaw::Dirichlet) {
                SizeLaw::Dirichlet => Sizes::Dirichlet(alpha),
                SizeLaw::LogNormal => Sizes::LogNormal(config.sigma.unwrap_or(0.5)),
            },
            min_size,
        }),
        SplitKind::UniformPerClass => Box::new(UniformPerClass {
            nodes,
            per_class: config.images_per_class,
        }),
        SplitKind::RandomEqual => Box::new(RandomEqual {
            nodes,
            size: config.images_per_node,
        }),
        SplitKind::RandomUnequal => Box::new(RandomUnequal { nodes, min_size }),
        SplitKind::Skewed => Box::new(Skewed {
            nodes,
            major_classes: classes_per_node,
            major: config.major_images.unwrap_or([60, 110]),
            minor: config.minor_images.unwrap_or([1, 10]),
        }),
    }
}
