//! `inspect diff` shows in what two runs differ.

use super::format::short;
use super::run::{Comparison, Metrics, Run};
use super::settings::typed;
use super::{Answer, find};
use crate::artifact::json::{self, Difference};
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

/// Holds a measure of both runs, and B − A.
#[derive(Serialize)]
struct Measure {
    name: &'static str,
    a: Option<f64>,
    b: Option<f64>,
    change: Option<f64>,
}

impl Request {
    /// Returns the settings, circumstances and metrics in which the runs differ.
    ///
    /// # Errors
    /// Fails when there are no such runs.
    pub fn answer(&self) -> Result<Answer> {
        let one = find::one(&self.one, "run", "diff", |_| true)?;
        let other = find::one(&self.other, "run", "diff", |_| true)?;
        if one.manifest.stage != other.manifest.stage {
            let stages = (&one.manifest.stage, &other.manifest.stage);
            tracing::warn!(
                "these are different stages: A is of {}, B of {}",
                stages.0,
                stages.1
            );
        }
        let settings = (read_settings(&one), read_settings(&other));
        let settings = json::differences(&settings.0, &settings.1);
        let circumstances = (circumstances(&one), circumstances(&other));
        let circumstances = json::differences(&circumstances.0, &circumstances.1);
        let measures = measures(
            &one.metrics()?.unwrap_or_default(),
            &other.metrics()?.unwrap_or_default(),
        );
        let mut text = format!("A: {}\nB: {}\n\n", one.name, other.name);
        text += &section("setting", &settings, "the settings are the same");
        text += &section(
            "circumstance",
            &circumstances,
            "inputs, versions and device are the same",
        );
        text += &metrics_table(&measures);
        Answer::new(
            text,
            json!({
                "a": one.path,
                "b": other.path,
                "config": data(&settings),
                "circumstances": data(&circumstances),
                "metrics": measures,
            }),
        )
    }
}

/// Returns the part of a run's config that its stage reads.
fn read_settings(run: &Run) -> Value {
    let config = recorded(&run.manifest.config);
    match stages::named(&run.manifest.stage) {
        Some(stage) => stage.part(config),
        None => config,
    }
}

/// Returns what is not in the config: the files that were read, versions, device.
fn circumstances(run: &Run) -> Value {
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
    Value::Object(facts.chain(inputs).chain(rest).collect())
}

/// Returns the differences as JSON.
fn data(differences: &[Difference]) -> Vec<Value> {
    let data = |(key, a, b): &Difference| json!({"key": key, "a": a, "b": b});
    differences.iter().map(data).collect()
}

/// Returns a table of the differences, or the sentence `none` if there is no difference.
fn section(what: &str, differences: &[Difference], none: &str) -> String {
    if differences.is_empty() {
        return format!("{none}\n\n");
    }
    let text = |value: Option<&Value>| {
        let text = value.map_or("–".into(), typed);
        // The first digits of a hash are enough.
        match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => short(&text),
            false => text,
        }
    };
    let mut table = Table::new(&[what, "A", "B"]);
    for (key, a, b) in differences {
        table.row(vec![key.clone(), text(*a), text(*b)]);
    }
    format!("{table}\n\n")
}

/// Takes a measure from a run's metrics.
type Of<'a> = &'a dyn Fn(&Metrics) -> Option<f64>;

/// Returns the measures that at least one of the runs has.
fn measures(one: &Metrics, other: &Metrics) -> Vec<Measure> {
    let loss = |metrics: &Metrics| metrics.epochs.last().and_then(|epoch| epoch.train_loss);
    let compared = |metrics: &Metrics, of: fn(&Comparison) -> Option<f64>| {
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

/// Returns the measures as a table.
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
