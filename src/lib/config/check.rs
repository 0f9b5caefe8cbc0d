//! What a type cannot say: ranges of numbers, and settings that must fit each other. A table, run
//! over the finished config.

use super::foreign;
use super::issue::Issue;
use super::node::Node;
use super::range::*;
use super::schema::{Config, SizeLaw};
use crate::error::Result;
use crate::inversion::{LabelSampling, TeacherMode};
use crate::train::OptimizerSettings;

/// Keys (`*.` stands for any beginning) and their range; in a list it holds for every item, and the
/// list must not be empty.
const RANGES: &[(&str, &Range)] = &[
    ("threads", &AT_LEAST_ONE),
    ("checkpoint.every", &NOT_NEGATIVE),
    ("ranks.timeout", &POSITIVE),
    ("fed_avg.ranks", &RANKS),
    ("fed_md.ranks", &RANKS),
    ("dataset.size", &SMALLEST_IMAGE),
    ("dataset.channels", &COLOURS),
    ("dataset.std", &POSITIVE),
    ("dataset.max_train", &AT_LEAST_ONE),
    ("dataset.max_test", &AT_LEAST_ONE),
    ("model.width", &AT_LEAST_ONE),
    ("model.blocks", &AT_LEAST_ONE),
    ("student.model.width", &AT_LEAST_ONE),
    ("student.model.blocks", &AT_LEAST_ONE),
    ("split.num_nodes", &AT_LEAST_ONE),
    ("split.unif_percentage", &SHARE),
    ("split.alpha", &POSITIVE),
    ("split.sigma", &NOT_NEGATIVE),
    ("split.min_size", &AT_LEAST_ONE),
    ("split.shards_per_node", &AT_LEAST_ONE),
    ("split.classes_per_node", &AT_LEAST_ONE),
    ("split.images_per_class", &AT_LEAST_ONE),
    ("split.images_per_node", &AT_LEAST_ONE),
    ("split.major_images", &AT_LEAST_ONE),
    ("teacher.num_teachers", &AT_LEAST_ONE),
    ("teacher.validation_share", &PART),
    ("student.distill.temperature", &POSITIVE),
    ("student.class_weights", &NOT_NEGATIVE),
    ("deep_inv.label_weights", &NOT_NEGATIVE),
    ("deep_inv.teachers.n", &AT_LEAST_ONE),
    ("distributed_sgd.ranks", &RANKS),
    ("distributed_sgd.parts", &RANKS),
    ("distributed_sgd.report_every", &AT_LEAST_ONE),
    ("fed_avg.rounds", &ROUNDS),
    ("fed_avg.fraction", &FRACTION),
    ("fed_avg.eval_every", &AT_LEAST_ONE),
    ("fed_avg.proximal", &NOT_NEGATIVE),
    ("fed_md.rounds", &ROUNDS),
    ("fed_md.eval_every", &AT_LEAST_ONE),
    ("fed_md.public_samples", &AT_LEAST_TWO),
    ("fed_md.weights", &NOT_NEGATIVE),
    ("fed_md.digest_batch_size", &BATCH),
    ("fed_md.public.size", &SMALLEST_IMAGE),
    ("fed_md.public.channels", &COLOURS),
    ("fed_md.public.std", &POSITIVE),
    ("fed_md.public.max_train", &AT_LEAST_TWO),
    ("*.batch_size", &BATCH),
    ("*.epochs", &AT_LEAST_ONE),
    ("*.eval_batch_size", &BATCH),
    ("*.loss.l2_scale", &NOT_NEGATIVE),
    ("*.loss.var_scale", &NOT_NEGATIVE),
    ("*.loss.bn_scale", &NOT_NEGATIVE),
    ("*.loss.comp_scale", &NOT_NEGATIVE),
    ("*.grad_updates_batch", &AT_LEAST_ONE),
    ("*.optimizer.lr", &NOT_NEGATIVE),
    ("*.server.lr", &NOT_NEGATIVE),
    ("*.server.momentum", &DECAY),
    ("*.server.weight_decay", &NOT_NEGATIVE),
    ("*.server.betas", &DECAY),
    ("*.server.eps", &POSITIVE),
    ("*.optimizer.momentum", &DECAY),
    ("*.optimizer.weight_decay", &NOT_NEGATIVE),
    ("*.optimizer.betas", &DECAY),
    ("*.optimizer.eps", &POSITIVE),
    ("*.schedule.gamma", &POSITIVE),
    ("*.schedule.warmup", &SHARE),
    ("*.augment.crop", &NOT_NEGATIVE),
];

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
            config.split.alpha.is_none() || config.split.sizes != Some(SizeLaw::LogNormal)
        },
    },
    Relation {
        keys: &["split.sigma", "split.sizes"],
        must: "is read only when `split.sizes` is `log_normal`",
        holds: |config| {
            config.split.sigma.is_none() || config.split.sizes == Some(SizeLaw::LogNormal)
        },
    },
    Relation {
        keys: &["split.major_images"],
        must: "must be a smallest and a largest number",
        holds: |config| ascending(config.split.major_images),
    },
    Relation {
        keys: &["split.minor_images"],
        must: "must be a smallest and a largest number",
        holds: |config| ascending(config.split.minor_images),
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
        holds: |config| match (&config.teacher.only, config.teacher.num_teachers) {
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

fn ascending(range: Option<[usize; 2]>) -> bool {
    range.is_none_or(|[least, most]| least <= most)
}

fn some_weight(weights: Option<&[f64]>) -> bool {
    weights.is_none_or(|weights| weights.iter().any(|weight| *weight > 0.0))
}

fn nesterov(optimizer: &OptimizerSettings) -> bool {
    !optimizer.nesterov || optimizer.momentum > 0.0
}

/// The range that the value of a key must lie in, if there is one.
pub fn range(key: &str) -> Option<&'static Range> {
    let rule = RANGES.iter().find(|(pattern, _)| applies(pattern, key));
    rule.map(|(_, range)| *range)
}

/// Every rule the config breaks, in schema order. `set_by` tells who set a key.
pub fn check(config: &Config, set_by: &dyn Fn(&str) -> String) -> Result<Vec<Issue>> {
    let tree = Node::built_in(config)?;
    let mut issues = Vec::new();
    tree.leaves(&mut |path, node| {
        let key = path.join(".");
        let rules = RANGES.iter().filter(|(pattern, _)| applies(pattern, &key));
        let broken = rules.filter_map(|(_, range)| broken(range, &key, &node.value));
        issues.extend(broken.map(|what| Issue::new(what).note("set by", set_by(&key))));
    });
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
    issues.extend(foreign::split_keys(config, &tree, set_by)?);
    Ok(issues)
}

fn applies(pattern: &str, key: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => key.ends_with(end),
        None => pattern == key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_names_keys_that_exist() {
        let mut keys = Vec::new();
        let reference = Node::built_in(&Config::reference()).unwrap();
        reference.leaves(&mut |path, _| keys.push(path.join(".")));
        for (pattern, _) in RANGES {
            assert!(
                keys.iter().any(|key| applies(pattern, key)),
                "{pattern} matches no key"
            );
        }
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
