//! Settings that must fit each other: a table, run over the finished config.

use super::issue::Issue;
use super::node::Node;
use super::schema::Config;
use crate::error::Result;
use crate::inversion::{LabelSampling, TeacherMode};
use crate::partition::{PartitionSettings, QuantitySkewSettings, SizeLaw};
use crate::train::OptimizerSettings;

/// Settings that must fit each other.
struct Relation {
    /// The keys it is about, the one to blame first.
    keys: &'static [&'static str],
    must: &'static str,
    holds: fn(&Config) -> bool,
}

/// Nesterov's momentum of these optimiser settings needs a momentum.
macro_rules! nesterov {
    ($group:ident.$optimizer:ident) => {
        Relation {
            keys: &[
                concat!(stringify!($group), ".", stringify!($optimizer), ".nesterov"),
                concat!(stringify!($group), ".", stringify!($optimizer), ".momentum"),
            ],
            must: concat!(
                "needs a `",
                stringify!($group),
                ".",
                stringify!($optimizer),
                ".momentum` greater than 0"
            ),
            holds: |config| nesterov(&config.$group.$optimizer),
        }
    };
}

const RELATIONS: &[Relation] = &[
    Relation {
        keys: &["device"],
        must: "must be `auto`, `cpu`, `cuda` or `cuda:N`",
        holds: |config| device(&config.device),
    },
    Relation {
        keys: &["dataset.std", "dataset.mean"],
        must: "must have as many values as `dataset.mean`, or both be null",
        holds: |config| {
            config.dataset.std.as_ref().map(Vec::len) == config.dataset.mean.as_ref().map(Vec::len)
        },
    },
    Relation {
        keys: &["dataset.mean", "dataset.channels"],
        must: "must have one value for each of `dataset.channels`",
        holds: |config| match (&config.dataset.mean, config.dataset.channels) {
            (Some(mean), Some(channels)) => mean.len() as i64 == channels,
            _ => true,
        },
    },
    Relation {
        keys: &["split.alpha", "split.sizes"],
        must: "is not read when `split.sizes` is `log_normal`: its spread is `split.sigma`",
        holds: |config| {
            quantity_skew(config)
                .is_none_or(|skew| skew.alpha.is_none() || skew.sizes != Some(SizeLaw::LogNormal))
        },
    },
    Relation {
        keys: &["split.sigma", "split.sizes"],
        must: "is read only when `split.sizes` is `log_normal`",
        holds: |config| {
            quantity_skew(config)
                .is_none_or(|skew| skew.sigma.is_none() || skew.sizes == Some(SizeLaw::LogNormal))
        },
    },
    Relation {
        keys: &["split.major_images"],
        must: "must be a smallest and a largest number",
        holds: |config| match &config.split.partition {
            PartitionSettings::Skewed(skewed) => ascending(skewed.major),
            _ => true,
        },
    },
    Relation {
        keys: &["split.minor_images"],
        must: "must be a smallest and a largest number",
        holds: |config| match &config.split.partition {
            PartitionSettings::Skewed(skewed) => ascending(skewed.minor),
            _ => true,
        },
    },
    Relation {
        keys: &["deep_inv.label_weights", "deep_inv.labels"],
        must: "must be given when `deep_inv.labels` is `weighted`",
        holds: |config| {
            config.deep_inv.labels != LabelSampling::Weighted
                || config.deep_inv.label_weights.is_some()
        },
    },
    Relation {
        keys: &["deep_inv.label_weights"],
        must: "must not all be 0",
        holds: |config| some_weight(config.deep_inv.label_weights.as_deref()),
    },
    Relation {
        keys: &["student.class_weights"],
        must: "must not all be 0",
        holds: |config| some_weight(config.student.class_weights.as_deref()),
    },
    Relation {
        keys: &["deep_inv.teachers.n", "teacher.num_teachers"],
        must: "must not be more than `teacher.num_teachers`",
        holds: |config| match (config.deep_inv.teachers.mode, config.teacher.num_teachers) {
            (TeacherMode::Sample, Some(all)) => config.deep_inv.teachers.n <= all,
            _ => true,
        },
    },
    Relation {
        keys: &["teacher.only", "teacher.num_teachers"],
        must: "must name teachers from 0 to `teacher.num_teachers` − 1",
        holds: |config| match (&*config.teacher.only, config.teacher.num_teachers) {
            (Some(only), Some(all)) => only.iter().all(|i| *i < all),
            _ => true,
        },
    },
    nesterov!(teacher.optimizer),
    nesterov!(student.optimizer),
    nesterov!(distributed_sgd.optimizer),
    nesterov!(fed_avg.optimizer),
    nesterov!(fed_avg.server),
    nesterov!(fed_md.optimizer),
    Relation {
        keys: &["fed_md.public_node", "fed_md.public.kind"],
        must: "is not read when `fed_md.public` is another dataset: no node is public then",
        holds: |config| config.fed_md.public_node.is_none() || config.fed_md.public.is_none(),
    },
    Relation {
        keys: &["fed_md.public.max_train"],
        must: "must be 2 or more",
        holds: |config| {
            let images = config
                .fed_md
                .public
                .as_ref()
                .and_then(|public| public.max_train);
            images.is_none_or(|images| images >= 2)
        },
    },
    Relation {
        keys: &["fed_md.weights"],
        must: "must not all be 0",
        holds: |config| some_weight(config.fed_md.weights.as_deref()),
    },
    Relation {
        keys: &["fed_md.models"],
        must: "must name an architecture, or be null",
        holds: |config| {
            config
                .fed_md
                .models
                .as_ref()
                .is_none_or(|models| !models.is_empty())
        },
    },
];

fn device(name: &str) -> bool {
    match name.strip_prefix("cuda:") {
        Some(index) => !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()),
        None => matches!(name, "auto" | "cpu" | "cuda"),
    }
}

fn quantity_skew(config: &Config) -> Option<&QuantitySkewSettings> {
    match &config.split.partition {
        PartitionSettings::QuantitySkew(settings) => Some(settings),
        _ => None,
    }
}

fn ascending([least, most]: [usize; 2]) -> bool {
    least <= most
}

fn some_weight(weights: Option<&[f64]>) -> bool {
    weights.is_none_or(|weights| weights.iter().any(|weight| *weight > 0.0))
}

fn nesterov(optimizer: &OptimizerSettings) -> bool {
    !optimizer.nesterov || optimizer.momentum > 0.0
}

/// Reports every relation that the config breaks. `set_by` tells who set a key.
pub fn check(config: &Config, set_by: &dyn Fn(&str) -> String) -> Result<Vec<Issue>> {
    let tree = Node::built_in(config)?;
    let mut issues = Vec::new();
    for relation in RELATIONS
        .iter()
        .filter(|relation| !(relation.holds)(config))
    {
        let Some(key) = relation.keys.first() else {
            continue;
        };
        let found = relation.keys.iter().map(|key| {
            let node = tree.get(&key.split('.').collect::<Vec<_>>());
            let value = node.map_or("null".into(), |node| super::yaml::inline(&node.value));
            format!("{key}={value}, set by {}", set_by(key))
        });
        let issue = Issue::new(format!("`{key}` {}", relation.must));
        issues.push(found.fold(issue, |issue, text| issue.note("found", text)));
    }
    Ok(issues)
}

#[cfg(test)]
mod tests {
    use super::super::shape;
    use super::*;

    #[test]
    fn every_rule_names_keys_that_exist() {
        let mut keys = Vec::new();
        shape::config().leaves(&mut |path| keys.push(path.join(".")));
        for key in RELATIONS.iter().flat_map(|relation| relation.keys) {
            assert!(keys.iter().any(|known| known == key), "{key} is no key");
        }
    }

    #[test]
    fn the_default_breaks_no_rule() {
        let issues = check(&Config::default(), &|_| String::new()).unwrap();
        assert!(issues.is_empty(), "{issues:?}");
    }
}
