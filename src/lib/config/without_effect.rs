//! Finds settings that are read under one value of another key alone, and were given although that
//! key has another. Keys of another `kind` are mistakes; these deserve a warning: who changes one
//! key of an experiment, or sweeps over it, leaves the others as they are.

use super::composed::Composed;
use super::schema::Config;
use crate::artifact::json::at;
use serde_json::Value;

/// Names each key or group of keys, the key that decides whether it is read, and the value under
/// which it is.
const READ_WHEN: [(&str, &str, &str); 14] = [
    // `student.distill.ensemble` is read in any case: the joint prediction is compared with.
    ("student.distill.temperature", OBJECTIVE, "distill"),
    ("student.distill.label_weight", OBJECTIVE, "distill"),
    ("student.distill.soften", OBJECTIVE, "distill"),
    ("student.distill.cache_mib", OBJECTIVE, "distill"),
    (WEIGHTS, "student.distill.ensemble", "weighted_logits"),
    ("deep_inv.candidates", "deep_inv.start", "shapes"),
    ("deep_inv.teachers.n", MODE, "sample"),
    ("deep_inv.teachers.per", MODE, "sample"),
    ("deep_inv.di.loss.entropy_scale", MODE, "cycle"),
    ("deep_inv.di.loss.rival_scale", MODE, "cycle"),
    ("deep_inv.adi.loss.entropy_scale", MODE, "cycle"),
    ("deep_inv.adi.loss.rival_scale", MODE, "cycle"),
    ("deep_inv.label_weights", "deep_inv.labels", "weighted"),
    (
        "teacher.validation_share",
        "teacher.selection",
        "best_validation",
    ),
];

const OBJECTIVE: &str = "student.objective";
const WEIGHTS: &str = "student.teacher_weights";
const MODE: &str = "deep_inv.teachers.mode";

/// Tells of a setting without an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// The dotted key.
    pub key: String,
    /// What a warning says: who set the key, and what would read it.
    pub line: String,
}

impl Composed {
    /// Returns the keys that a file or the command line sets to something else than their defaults,
    /// and that nothing reads under the values of others.
    pub fn without_effect(&self) -> Vec<Idle> {
        let json = |config: &Config| serde_json::to_value(config).unwrap_or_default();
        let (config, default) = (json(&self.config), json(&Config::default()));
        let is_read = |key: &str, decider: &str, value: &str| {
            at(&config, decider) == value || key == WEIGHTS && self.config.weighs_teachers()
        };
        // With a generator nothing reads the group.
        let is_inverted =
            |key: &str| self.config.generator.is_none() || !key.starts_with("deep_inv.");
        let idle = READ_WHEN
            .iter()
            .filter(|(key, decider, value)| is_inverted(key) && !is_read(key, decider, value));
        let keys = idle.flat_map(|(key, decider, value)| {
            let below = leaves(key, at(&config, key)).into_iter();
            below.map(move |key| (key, decider, value))
        });
        let is_given = |key: &str| at(&config, key) != at(&default, key) && self.is_set(key);
        keys.filter(|(key, ..)| is_given(key))
            .map(|(key, decider, value)| {
                let line = format!(
                    "`{key}`, set by {}, has no effect: `{decider}` is `{}`, and \
                     `{decider}={value}` reads it",
                    self.set_by(&key),
                    at(&config, decider).as_str().unwrap_or("null"),
                );
                Idle { key, line }
            })
            .chain(self.typed_in_vain(&config, &default))
            .collect()
    }

    /// Returns the keys that the command line sets although nothing reads them, nor the rest of
    /// their group. What files set there belongs to an experiment that is run in another way.
    fn typed_in_vain(&self, config: &Value, default: &Value) -> Vec<Idle> {
        let mut groups = Vec::new();
        if self.config.generator.is_some() {
            let why =
                "a generator makes the batches, and `generator=null` leaves them to inversion";
            groups.push(("deep_inv", why));
        }
        if self.config.split.save_path.is_none() {
            groups.push(("split", "there is no split: `split.save_path` is not set"));
        }
        if self.config.dataset.test_share.is_none() {
            let why = "no test images are drawn; `dataset.test_share=0.2` draws some";
            groups.push(("dataset.test_seed", why));
        }
        let typed = |key: &str| {
            let by = self.set_by(key);
            (at(config, key) != at(default, key) && by.starts_with("command line")).then_some(by)
        };
        let idle = |(group, why): (&str, &str)| {
            let keys = leaves(group, at(config, group)).into_iter();
            let lines = keys.filter_map(|key| {
                let line = format!("`{key}`, set by {}, has no effect: {why}", typed(&key)?);
                Some(Idle { key, line })
            });
            lines.collect::<Vec<_>>()
        };
        groups.into_iter().flat_map(idle).collect()
    }
}

/// Returns the keys of all values at or below `key`.
fn leaves(key: &str, value: &Value) -> Vec<String> {
    match value.as_object() {
        Some(map) => map
            .iter()
            .flat_map(|(name, value)| leaves(&format!("{key}.{name}"), value))
            .collect(),
        None => vec![key.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape;
    use super::*;

    #[test]
    fn every_rule_names_keys_that_exist() {
        for (key, decider, value) in READ_WHEN {
            let path = |key: &str| key.split('.').map(str::to_owned).collect::<Vec<_>>();
            assert!(shape::config().get(&path(key)).is_some(), "{key}");
            let decider = shape::config()
                .get(&path(decider))
                .map(|shape| &shape.takes);
            let Some(shape::Takes::Names(names)) = decider else {
                panic!("{key}: {decider:?}");
            };
            assert!(names.iter().any(|name| name == value), "{key}: {value}");
        }
    }
}
