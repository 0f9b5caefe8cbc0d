//! Describes the settings of runs: those that are not defaults, and the main ones in a few words.

use super::run::Run;
use crate::artifact::json;
use crate::config::Config;
use crate::config::schema::SplitConfig;
use crate::model::ModelSettings;
use crate::report::Table;
use crate::run::manifest::TEACHERS_MODEL;
use crate::words::counted;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// Returns a value as it is typed on the command line.
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

/// Returns the settings in which a config is not the built-in default, by their dotted keys.
pub fn chosen(config: &Value) -> Vec<(String, &Value)> {
    static DEFAULT: LazyLock<Value> = LazyLock::new(|| json!(Config::default()));
    let differences = json::differences(config, &DEFAULT).into_iter();
    differences
        .filter_map(|(key, own, _)| Some((key, own?)))
        .collect()
}

/// Returns a table with a line for each setting.
pub fn table(settings: &[(String, &Value)]) -> Table {
    let mut table = Table::new(&["setting", "value"]);
    for (key, value) in settings {
        table.row(vec![key.clone(), typed(value)]);
    }
    table
}

/// Returns the seeds that the stage used, `42` or for a student `42, 43`.
pub fn seeds(run: &Run) -> String {
    let seed = typed(run.setting("seed"));
    match run.is_student() {
        true => format!("{seed}, {}", typed(run.setting("student.seed"))),
        false => seed,
    }
}

/// Returns the name under which the settings of a server's stage are known: that of its method, or
/// else that of its experiment.
pub fn name(run: &Run) -> Option<&str> {
    let stage = run.manifest.stage.as_str();
    let chosen = |beginning: &str| {
        let overrides = run.manifest.overrides.iter().rev();
        let mut named = overrides.map(|text| text.trim_start_matches('+'));
        named.find_map(|text| text.strip_prefix(beginning))
    };
    match stage {
        "generate_initial" | "train_student" => chosen("method=").or_else(|| chosen("experiment=")),
        _ => None,
    }
}

/// Returns the main settings of a run in a few words, behind the name that they have.
pub fn summary(run: &Run) -> String {
    match name(run) {
        Some(name) => format!("{name}: {}", in_words(run)),
        None => in_words(run),
    }
}

fn in_words(run: &Run) -> String {
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
        "generate_initial" if run.setting("generator").is_object() => format!(
            "{}×{}, {} of a generator",
            of("initial.num_batches"),
            count("generator.batch_size", "image"),
            count("generator.steps", "step")
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

/// Returns the model of a config group: `resnet18 width 16 blocks [1, 1, 1]`.
fn architecture(run: &Run, group: &str) -> String {
    match ModelSettings::deserialize(run.setting(group)) {
        Ok(settings) => settings.to_string(),
        // Written by a version that had other settings.
        Err(_) => typed(run.setting(&format!("{group}.kind"))),
    }
}

/// Returns the student's own architecture, or the teachers'.
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

/// Returns what happens in the rounds of federated averaging, in the paper's letters.
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

/// Returns the clients' architectures.
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

/// Returns what happens in the rounds of FedMD.
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

/// Returns the dataset as it was configured: `digits`, `cifar10 16×16`.
pub fn dataset(run: &Run) -> String {
    let kind = typed(run.setting("dataset.kind"));
    match run.setting("dataset.size").as_i64() {
        Some(size) => format!("{kind} {size}×{size}"),
        None => kind,
    }
}

/// Returns the kind of a split with what was set for it.
fn split_kind(run: &Run) -> String {
    let split = SplitConfig::recorded(run.setting("split"));
    let split = split.map_or(Value::Null, |split| json!(split));
    let kind = typed(&split["kind"]);
    if let Some(share) = split["unif_percentage"].as_f64() {
        return format!("{:.0} % even", 100.0 * share);
    }
    let default = SplitConfig::recorded(&json!({"kind": kind}));
    let default = default.map_or(Value::Null, |default| json!(default.partition));
    let own = split.as_object().into_iter().flatten();
    let set = own.filter(|(key, value)| {
        !["kind", "num_nodes", "save_path"].contains(&key.as_str()) && default[*key] != **value
    });
    set.fold(kind, |text, (key, value)| {
        format!("{text}, {key} {}", typed(value))
    })
}
