//! Settings that must fit each other, checked on the finished config.

use super::node::Node;
use super::schema::Config;
use super::suggest::did_you_mean;
use super::yaml;
use crate::error::{Error, Result};
use crate::inversion::{LabelSampling, TeacherMode};
use crate::partition::{PartitionSettings, SizeLaw};
use crate::runtime::device;
use crate::train::OptimizerKind;

/// Holds a demand on settings that must fit each other.
struct Relation {
    /// Keys it is about, the one to blame first.
    keys: Vec<String>,
    /// What the first key must do, as the message puts it.
    must: String,
    /// Whether the config meets it.
    holds: bool,
}

fn relation(keys: &[&str], must: impl Into<String>, holds: bool) -> Relation {
    Relation {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        must: must.into(),
        holds,
    }
}

/// Returns the demands on a config.
fn relations(config: &Config) -> Vec<Relation> {
    let mut all = vec![relation(
        &["device"],
        "must be `auto`, `cpu`, `cuda` or `cuda:N`",
        device::is_form(&config.device),
    )];
    all.extend(of_dataset(config));
    all.extend(of_split(config));
    all.extend(of_inversion(config));
    all.extend(of_optimizers(config));
    all.extend(of_fed_md(config));
    all
}

fn of_dataset(config: &Config) -> [Relation; 2] {
    let (mean, std) = (&config.dataset.mean, &config.dataset.std);
    let lengths = (mean.as_ref().map(Vec::len), std.as_ref().map(Vec::len));
    let fits = match (lengths.0, config.dataset.channels) {
        (Some(values), Some(channels)) => values as i64 == channels,
        _ => true,
    };
    [
        relation(
            &["dataset.std", "dataset.mean"],
            "must have as many values as `dataset.mean`, or both be null",
            lengths.0 == lengths.1,
        ),
        relation(
            &["dataset.mean", "dataset.channels"],
            "must have one value for each of `dataset.channels`",
            fits,
        ),
    ]
}

fn of_split(config: &Config) -> Vec<Relation> {
    match &config.split.partition {
        PartitionSettings::QuantitySkew(skew) => {
            let log_normal = skew.sizes == Some(SizeLaw::LogNormal);
            vec![
                relation(
                    &["split.alpha", "split.sizes"],
                    "is not read when `split.sizes` is `log_normal`: its spread is `split.sigma`",
                    skew.alpha.is_none() || !log_normal,
                ),
                relation(
                    &["split.sigma", "split.sizes"],
                    "is read only when `split.sizes` is `log_normal`",
                    skew.sigma.is_none() || log_normal,
                ),
            ]
        }
        PartitionSettings::Skewed(skewed) => {
            let bounds = |key, [least, most]: [usize; 2]| {
                relation(
                    &[key],
                    "must be a smallest and a largest number",
                    least <= most,
                )
            };
            vec![
                bounds("split.major_images", skewed.major),
                bounds("split.minor_images", skewed.minor),
            ]
        }
        _ => Vec::new(),
    }
}

fn of_inversion(config: &Config) -> Vec<Relation> {
    let (inversion, teacher) = (&config.deep_inv, &config.teacher);
    let sampled = match inversion.teachers.mode {
        TeacherMode::Sample => inversion.teachers.n,
        _ => 0,
    };
    let teachers = teacher.num_teachers.unwrap_or(usize::MAX);
    let mut only = teacher.only.iter().flatten();
    vec![
        relation(
            &["deep_inv.label_weights", "deep_inv.labels"],
            "must be given when `deep_inv.labels` is `weighted`",
            inversion.labels != LabelSampling::Weighted || inversion.label_weights.is_some(),
        ),
        some_weight("deep_inv.label_weights", inversion.label_weights.as_deref()),
        some_weight(
            "student.class_weights",
            config.student.class_weights.as_deref(),
        ),
        relation(
            &["deep_inv.teachers.n", "teacher.num_teachers"],
            "must not be more than `teacher.num_teachers`",
            sampled <= teachers,
        ),
        relation(
            &["teacher.only", "teacher.num_teachers"],
            "must name teachers from 0 to `teacher.num_teachers` − 1",
            only.all(|index| *index < teachers),
        ),
    ]
}

fn of_optimizers(config: &Config) -> impl Iterator<Item = Relation> {
    let generator = config.generator.as_ref();
    let all = [
        ("teacher.optimizer", &config.teacher.optimizer),
        ("student.optimizer", &config.student.optimizer),
        (
            "distributed_sgd.optimizer",
            &config.distributed_sgd.settings.optimizer,
        ),
        ("fed_avg.optimizer", &config.fed_avg.settings.optimizer),
        ("fed_avg.server", &config.fed_avg.settings.server),
        ("fed_md.optimizer", &config.fed_md.settings.optimizer),
    ];
    all.into_iter()
        .chain(generator.map(|settings| ("generator.optimizer", &settings.optimizer)))
        .filter_map(|(group, optimizer)| match &optimizer.kind {
            OptimizerKind::Sgd(sgd) => Some(relation(
                &[&format!("{group}.nesterov"), &format!("{group}.momentum")],
                format!("needs a `{group}.momentum` greater than 0"),
                !sgd.nesterov || sgd.momentum > 0.0,
            )),
            OptimizerKind::Adam(_) => None,
        })
}

fn of_fed_md(config: &Config) -> [Relation; 4] {
    let fed_md = &config.fed_md;
    let images = fed_md.public.as_ref().and_then(|public| public.max_train);
    [
        relation(
            &["fed_md.public_node", "fed_md.public.kind"],
            "is not read when `fed_md.public` is another dataset: no node is public then",
            fed_md.public_node.is_none() || fed_md.public.is_none(),
        ),
        relation(
            &["fed_md.public.max_train"],
            "must be 2 or more",
            images.is_none_or(|images| images >= 2),
        ),
        some_weight("fed_md.weights", fed_md.settings.weights.as_deref()),
        relation(
            &["fed_md.models"],
            "must name an architecture, or be null",
            fed_md
                .models
                .as_ref()
                .is_none_or(|models| !models.is_empty()),
        ),
    ]
}

fn some_weight(key: &str, weights: Option<&[f64]>) -> Relation {
    let some = |weights: &[f64]| weights.iter().any(|weight| *weight > 0.0);
    relation(&[key], "must not all be 0", weights.is_none_or(some))
}

/// Reports every relation that the config breaks. `set_by` tells who set a key.
///
/// # Errors
/// Fails at a number that JSON cannot hold, which validation has refused.
pub fn check(config: &Config, set_by: &dyn Fn(&str) -> String) -> Result<Vec<Error>> {
    let tree = Node::built_in(config)?;
    let broken = relations(config)
        .into_iter()
        .filter(|relation| !relation.holds);
    let error = |relation: Relation| {
        let blamed = relation.keys.first().map_or("", String::as_str);
        let error = Error::usage(format!("`{blamed}` {}", relation.must));
        let error = relation.keys.iter().fold(error, |error, key| {
            let node = tree.get(&key.split('.').collect::<Vec<_>>());
            let value = node.map_or("null".into(), |node| yaml::inline(&node.value));
            error.note("found", format!("{key}={value}, set by {}", set_by(key)))
        });
        let meant = device::meant(&config.device).filter(|_| blamed == "device");
        did_you_mean(error, meant)
    };
    Ok(broken.map(error).collect())
}

#[cfg(test)]
mod tests {
    use super::super::shape;
    use super::*;
    use crate::generator::GeneratorSettings;
    use crate::partition::{QuantitySkewSettings, Skewed};
    use crate::train::OptimizerSettings;

    #[test]
    fn every_rule_names_keys_that_exist() {
        let mut known = Vec::new();
        shape::config().leaves(&mut |path| known.push(path.join(".")));
        let mut config = Config::default();
        // Adam is their default, and has no rule.
        let sgd = OptimizerSettings::sgd(0.1, 0.9);
        config.fed_md.settings.optimizer = sgd.clone();
        config.generator = Some(GeneratorSettings {
            optimizer: sgd,
            ..GeneratorSettings::default()
        });
        for split in [
            PartitionSettings::Skewed(Skewed::default()),
            PartitionSettings::QuantitySkew(QuantitySkewSettings::default()),
        ] {
            config.split.partition = split;
            for key in relations(&config)
                .iter()
                .flat_map(|relation| &relation.keys)
            {
                assert!(known.contains(key), "{key} is no key");
            }
        }
    }

    #[test]
    fn the_default_breaks_no_rule() {
        let mistakes = check(&Config::default(), &|_| String::new()).unwrap();
        assert!(mistakes.is_empty(), "{mistakes:?}");
    }
}
