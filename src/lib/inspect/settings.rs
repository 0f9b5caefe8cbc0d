//! Configs as dotted keys: what differs, what a run was about.

use super::run::Run;
use crate::config::Config;
use crate::config::schema::SplitKind;
use crate::model::ModelSettings;
use crate::run::manifest::TEACHERS_MODEL;
use crate::words::counted;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Every leaf of a config by its dotted key, in the config's order.
pub fn flat(config: &Value) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    descend("", config, &mut leaves);
    leaves
}

fn descend(place: &str, value: &Value, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let place = if place.is_empty() {
                    key.clone()
                } else {
                    format!("{place}.{key}")
                };
                descend(&place, value, leaves);
            }
        }
        _ => leaves.push((place.to_owned(), value.clone())),
    }
}

/// A value as it is typed on the command line.
pub fn typed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(typed).collect::<Vec<_>>().join(",")
        ),
        other => other.to_string(),
    }
}

/// The settings in which a config is not the built-in default.
pub fn chosen(config: &Value) -> Vec<(String, Value)> {
    let default: BTreeMap<String, Value> = serde_json::to_value(Config::default())
        .map(|default| flat(&default).into_iter().collect())
        .unwrap_or_default();
    flat(config)
        .into_iter()
        .filter(|(key, value)| default.get(key) != Some(value))
        .collect()
}

/// The seeds that the stage used, `42` or for a student `42, 43`.
pub fn seeds(run: &Run) -> String {
    let seed = typed(run.setting("seed"));
    match run.is_student() {
        true => format!("{seed}, {}", typed(run.setting("student.seed"))),
        false => seed,
    }
}

/// A run's key settings in a few words.
pub fn summary(run: &Run) -> String {
    let of = |key: &str| typed(run.setting(key));
    let count = |key: &str, noun: &str| counted(run.setting(key).as_u64().unwrap_or(0), noun);
    let model = || architecture(run, "model");
    match run.manifest.stage.as_str() {
        "split_data" => format!("{}, {}", count("split.num_nodes", "node"), split_kind(run)),
        "train_teachers" => format!(
            "{}, {}, lr {}",
            model(),
            count("teacher.epochs", "epoch"),
            of("teacher.optimizer.lr")
        ),
        "generate_initial" => format!(
            "{}×{}, {}, {}",
            of("initial.num_batches"),
            count("deep_inv.batch_size", "image"),
            count("deep_inv.di.grad_updates_batch", "update"),
            of("deep_inv.teachers.mode")
        ),
        "train_student" => format!(
            "{}, {}, {}, {} fresh an epoch",
            student(run),
            of("student.objective"),
            count("student.epochs", "epoch"),
            of("student.new_batches_per_epoch")
        ),
        "fed_avg" => format!("{}, {}", model(), rounds(run)),
        "fed_md" => format!("{}, {}", clients(run), consensus(run)),
        "distributed_sgd" => format!(
            "{}, {}, {}",
            model(),
            of("distributed_sgd.method"),
            count("distributed_sgd.epochs", "epoch")
        ),
        _ => String::new(),
    }
}

/// `resnet18 width 16 blocks [1, 1, 1]` of a config group.
fn architecture(run: &Run, group: &str) -> String {
    match ModelSettings::deserialize(run.setting(group)) {
        Ok(settings) => settings.to_string(),
        // Of a version that knew others.
        Err(_) => typed(run.setting(&format!("{group}.kind"))),
    }
}

/// The student's own architecture, or the teachers'.
fn student(run: &Run) -> String {
    match (
        run.setting("student.model"),
        run.manifest.facts.get(TEACHERS_MODEL),
    ) {
        (Value::Null, Some(teachers)) => typed(teachers),
        (Value::Null, None) => architecture(run, "model"),
        _ => architecture(run, "student.model"),
    }
}

/// What happens in the rounds of federated averaging, in the paper's letters.
fn rounds(run: &Run) -> String {
    let of = |key: &str| typed(run.setting(&format!("fed_avg.{key}")));
    let batch = match run.setting("fed_avg.batch_size") {
        Value::Null => "all".into(),
        size => typed(size),
    };
    let mut text = format!(
        "{} (C {}, E {}, B {batch}), lr {}, server {} {}",
        counted(run.setting("fed_avg.rounds").as_u64().unwrap_or(0), "round"),
        of("fraction"),
        of("epochs"),
        of("optimizer.lr"),
        of("server.kind"),
        of("server.lr")
    );
    if run
        .setting("fed_avg.proximal")
        .as_f64()
        .is_some_and(|weight| weight > 0.0)
    {
        text += &format!(", proximal {}", of("proximal"));
    }
    if run.setting("fed_avg.statistics") == "local" {
        text += ", local statistics";
    }
    text
}

/// The clients' architectures.
fn clients(run: &Run) -> String {
    match run.setting("fed_md.models").as_array() {
        Some(models) => models
            .iter()
            .map(|model| typed(&model["kind"]))
            .collect::<Vec<_>>()
            .join(" and "),
        None => architecture(run, "model"),
    }
}

/// What happens in the rounds of FedMD.
fn consensus(run: &Run) -> String {
    let of = |key: &str| run.setting(&format!("fed_md.{key}"));
    let count = |key: &str, noun: &str| counted(of(key).as_u64().unwrap_or(0), noun);
    let samples = match of("public_samples") {
        Value::Null => "all public images".into(),
        // All, where there are fewer.
        _ => format!("up to {}", count("public_samples", "public image")),
    };
    format!(
        "{} of {samples}, digest {} and revisit {}, lr {}",
        count("rounds", "round"),
        typed(of("digest_epochs")),
        count("revisit_epochs", "epoch"),
        typed(of("optimizer.lr"))
    )
}

/// The dataset as it was configured: `digits`, `cifar10 16×16`.
pub fn dataset(run: &Run) -> String {
    let kind = typed(run.setting("dataset.kind"));
    match run.setting("dataset.size").as_i64() {
        Some(size) => format!("{kind} {size}×{size}"),
        None => kind,
    }
}

/// The kind of a split with what was set for it. Runs of before there were kinds are uniform
/// shares.
fn split_kind(run: &Run) -> String {
    let name = run.setting("split.kind");
    let kind = SplitKind::ALL.into_iter().find(|kind| name == kind.name());
    match kind.unwrap_or(SplitKind::UniformShare) {
        SplitKind::UniformShare => {
            let uniform = 100.0 * run.setting("split.unif_percentage").as_f64().unwrap_or(0.0);
            format!("{uniform:.0} % even")
        }
        kind => {
            let keys = kind
                .keys()
                .iter()
                .map(|key| (key, run.setting(&format!("split.{key}"))));
            let set = keys.filter(|(_, value)| !value.is_null());
            set.fold(kind.name().to_owned(), |text, (key, value)| {
                format!("{text}, {key} {}", typed(value))
            })
        }
    }
}
