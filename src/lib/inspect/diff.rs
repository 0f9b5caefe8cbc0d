//! `inspect diff`: in what two runs differ.

use super::run::{Metrics, Run};
use super::{Answer, find, settings};
use crate::config::schema::recorded;
use crate::report::Table;
use crate::run::stages;
use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// One run
    #[arg(value_name = "A")]
    one: PathBuf,
    /// The other
    #[arg(value_name = "B")]
    other: PathBuf,
}

/// A key with its two values; none where a run has no such key.
#[derive(Serialize)]
struct Difference {
    key: String,
    a: Option<Value>,
    b: Option<Value>,
}

/// A measure of both, and B − A.
#[derive(Serialize)]
struct Measure {
    name: &'static str,
    a: Option<f64>,
    b: Option<f64>,
    change: Option<f64>,
}

impl Request {
    /// # Errors
    /// No such runs.
    pub fn answer(&self) -> Result<Answer> {
        let one = find::one(&self.one, "run", |_| true)?;
        let other = find::one(&self.other, "run", |_| true)?;
        if one.manifest.stage != other.manifest.stage {
            let stages = (&one.manifest.stage, &other.manifest.stage);
            tracing::warn!(
                "these are different stages: A is of {}, B of {}",
                stages.0,
                stages.1
            );
        }
        let configs = differences(&read_settings(&one), &read_settings(&other));
        let circumstances = differences(&circumstances(&one), &circumstances(&other));
        let measures = measures(
            &one.metrics()?.unwrap_or_default(),
            &other.metrics()?.unwrap_or_default(),
        );
        let mut text = format!("A: {}\nB: {}\n\n", one.name, other.name);
        text += &section("setting", &configs, "the settings are the same");
        text += &section(
            "circumstance",
            &circumstances,
            "so are seeds, inputs, versions and device",
        );
        text += &metrics_table(&measures);
        Answer::new(
            text,
            json!({
                "a": one.place,
                "b": other.place,
                "config": configs,
                "circumstances": circumstances,
                "metrics": measures,
            }),
        )
    }
}

/// The settings that the run's stage reads, by their dotted keys.
fn read_settings(run: &Run) -> Vec<(String, Value)> {
    let stage = stages::named(&run.manifest.stage);
    let mut config = recorded(&run.manifest.config);
    if let (Some(stage), Some(keys)) = (stage, config.as_object_mut()) {
        keys.retain(|key, _| stage.reads(key));
    }
    settings::flat(&config)
}

/// What is not in the config: files read, versions, device.
fn circumstances(run: &Run) -> Vec<(String, Value)> {
    let manifest = &run.manifest;
    let inputs = manifest
        .inputs
        .iter()
        .map(|record| (format!("input {}", record.role), json!(record.sha256)));
    let facts = manifest
        .facts
        .iter()
        .map(|(name, value)| (name.replace('_', " "), value.clone()));
    let rest = [
        ("stage", json!(manifest.stage)),
        ("status", json!(manifest.status)),
        ("device", json!(manifest.device)),
        ("threads", json!(manifest.threads)),
        ("fed-distill", json!(manifest.versions.fed_distill)),
        ("libtorch", json!(manifest.versions.libtorch)),
    ];
    let rest = rest
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    facts.chain(inputs).chain(rest).collect()
}

fn differences(one: &[(String, Value)], other: &[(String, Value)]) -> Vec<Difference> {
    let find = |list: &[(String, Value)], key: &str| {
        list.iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
    };
    let only_there = other.iter().filter(|(key, _)| find(one, key).is_none());
    let keys = one.iter().chain(only_there).map(|(key, _)| key.clone());
    let both = keys.map(|key| Difference {
        a: find(one, &key),
        b: find(other, &key),
        key,
    });
    both.filter(|difference| difference.a != difference.b)
        .collect()
}

fn section(what: &str, differences: &[Difference], none: &str) -> String {
    if differences.is_empty() {
        return format!("{none}\n\n");
    }
    let text = |value: &Option<Value>| {
        let text = value.as_ref().map_or("–".into(), settings::typed);
        // A hash is told apart by its beginning.
        match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => text.chars().take(12).collect(),
            false => text,
        }
    };
    let mut table = Table::new(&[what, "A", "B"]);
    for difference in differences {
        table.row(vec![
            difference.key.clone(),
            text(&difference.a),
            text(&difference.b),
        ]);
    }
    format!("{table}\n\n")
}

/// What a measure is, of a run's metrics.
type Of<'a> = &'a dyn Fn(&Metrics) -> Option<f64>;

fn measures(one: &Metrics, other: &Metrics) -> Vec<Measure> {
    let loss = |metrics: &Metrics| metrics.epochs.last().and_then(|epoch| epoch.train_loss);
    let compared = |metrics: &Metrics, of: fn(&super::run::Comparison) -> Option<f64>| {
        metrics.comparison.as_ref().and_then(of)
    };
    let all: [(&str, Of); 7] = [
        ("final test accuracy", &|metrics| {
            metrics.final_test_accuracy
        }),
        ("best test accuracy", &|metrics| metrics.best_test_accuracy),
        ("saved test accuracy", &|metrics| {
            metrics.saved_test_accuracy
        }),
        ("teachers, mean", &|metrics| {
            compared(metrics, |c| c.teachers_mean)
        }),
        ("ensemble", &|metrics| compared(metrics, |c| c.ensemble)),
        ("one-shot average", &|metrics| {
            compared(metrics, |c| c.one_shot_average)
        }),
        ("last training loss", &loss),
    ];
    let measure = |(name, of): (&'static str, Of)| {
        let (a, b) = (of(one), of(other));
        let change = a.zip(b).map(|(a, b)| b - a);
        Measure { name, a, b, change }
    };
    all.into_iter()
        .map(measure)
        .filter(|measure| measure.a.is_some() || measure.b.is_some())
        .collect()
}

fn metrics_table(measures: &[Measure]) -> String {
    if measures.is_empty() {
        return "neither has metrics".into();
    }
    let mut table = Table::new(&["metric", "A", "B", "B − A"]);
    for measure in measures {
        let accuracy = measure.name != "last training loss";
        let write = |value: Option<f64>| match value {
            None => "–".into(),
            Some(value) if accuracy => format!("{:.1} %", 100.0 * value),
            Some(value) => format!("{value:.4}"),
        };
        let change = measure.change.map_or("–".into(), |change| match accuracy {
            true => format!("{:+.1}", 100.0 * change),
            false => format!("{change:+.4}"),
        });
        table.row(vec![
            measure.name.into(),
            write(measure.a),
            write(measure.b),
            change,
        ]);
    }
    format!("{table}\n\nAccuracies differ in percentage points.")
}
