//! `inspect show` describes one run.

use super::format::{short, size};
use super::run::{Metrics, Run};
use super::{Answer, find, settings};
use crate::artifact::json;
use crate::report::Table;
use crate::run::manifest::FileRecord;
use crate::words::{counted, percent};
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// The run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Every setting, not only those that differ from the built-in defaults
    #[arg(long)]
    all: bool,
}

impl Request {
    /// Returns facts, files and settings of the run.
    ///
    /// # Errors
    /// Fails when there is no such run, or several.
    pub fn answer(&self) -> Result<Answer> {
        let run = find::one(&self.run, "run", "show", |_| true)?;
        let metrics = run.metrics()?;
        let config = &run.manifest.config;
        let (listed, remark) = match self.all {
            true => (json::leaves(config), ""),
            false => (
                settings::chosen(config),
                "\n(other settings: built-in defaults; `--all` lists them)",
            ),
        };
        let text = format!(
            "{}\n\n{}\n\n{}{remark}",
            facts(&run, metrics.as_ref()).with_short_rule(),
            files(&run).with_short_rule(),
            settings::table(&listed).with_short_rule()
        );
        Answer::new(
            text,
            json!({"manifest": run.path, "run": run.manifest, "metrics": metrics}),
        )
    }
}

/// Returns a table with a line for each fact about the run.
pub fn facts(run: &Run, metrics: Option<&Metrics>) -> Table {
    let manifest = &run.manifest;
    let mut table = Table::new(&["run", &run.name]);
    let mut fact = |name: &str, value: String| {
        table.row(vec![name.into(), value]);
    };
    fact("stage", manifest.stage.clone());
    fact("status", run.status());
    if let Some(error) = &manifest.error {
        fact("ended by", error.lines().next().unwrap_or_default().into());
    }
    let took = run
        .took()
        .map_or(String::new(), |took| format!(", took {took}"));
    fact("started", format!("{} UTC{took}", run.started()));
    fact("command", manifest.argv.join(" "));
    let seeds: Vec<String> = manifest
        .seeds
        .iter()
        .map(|(name, seed)| format!("{name} {seed}"))
        .collect();
    fact("seeds", seeds.join(", "));
    fact(
        "device",
        format!(
            "{}, {}",
            manifest.device,
            counted(manifest.threads, "thread")
        ),
    );
    let versions = &manifest.versions;
    fact(
        "versions",
        format!(
            "fed-distill {}, libtorch {}",
            versions.fed_distill, versions.libtorch
        ),
    );
    for (name, value) in &manifest.facts {
        fact(&name.replace('_', " "), settings::typed(value));
    }
    if let Some(metrics) = metrics {
        let accuracies = [
            ("final test accuracy", metrics.final_test_accuracy),
            ("best test accuracy", metrics.best_test_accuracy),
            ("saved test accuracy", metrics.saved_test_accuracy),
        ];
        for (name, accuracy) in accuracies {
            fact(name, percent(accuracy));
        }
    }
    table
}

/// Returns a table of inputs and outputs.
pub fn files(run: &Run) -> Table {
    let mut table = Table::new(&["", "role", "file", "size", "sha256", ""]);
    let mut list = |way: &str, records: &[FileRecord]| {
        for record in records {
            let there = record.current_path(&run.path).exists();
            table.row(vec![
                way.into(),
                record.role.clone(),
                run.shown(record).display().to_string(),
                size(record.bytes),
                short(&record.sha256),
                if there { String::new() } else { "gone".into() },
            ]);
        }
    };
    list("read", &run.manifest.inputs);
    list("wrote", &run.manifest.outputs);
    table
}
