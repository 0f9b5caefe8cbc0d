//! `inspect runs`: every run below a folder.

use super::run::{Metrics, percent};
use super::{Answer, find, group, settings};
use crate::error::Error;
use crate::report::Table;
use crate::words::counted;
use anyhow::{Result, bail};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// Folder to search
    #[arg(value_name = "DIR", default_value = "outputs")]
    folder: PathBuf,
    /// One line for all runs that differ in seeds and paths only, with mean ± sample standard
    /// deviation
    ///
    /// How a run's split, teachers and initial batches were made counts as well, according to the
    /// manifests beside them. Without manifests, only runs that read the same files share a line.
    #[arg(long)]
    group: bool,
}

impl Request {
    /// # Errors
    /// No such folder, or no run in it.
    pub fn answer(&self) -> Result<Answer> {
        let (runs, broken) = find::below(&self.folder)?;
        if runs.is_empty() && broken.is_empty() {
            bail!(find::no_run(&self.folder));
        }
        broken.iter().for_each(|error| tracing::warn!("{error}"));
        let mut metrics = Vec::new();
        for run in &runs {
            let read = run.metrics().map_err(Error::from);
            let read = read.inspect_err(|error| tracing::warn!("{error}"));
            metrics.push(read.unwrap_or_default().unwrap_or_default());
        }
        let mut answer = match self.group {
            true => group::answer(&runs, &metrics)?,
            false => listed(&runs, &metrics)?,
        };
        if !broken.is_empty() {
            answer.failure = Some(Error::failed(format!(
                "{} cannot be read",
                counted(broken.len(), "manifest")
            )));
        }
        Ok(answer)
    }
}

fn listed(runs: &[super::run::Run], metrics: &[Metrics]) -> Result<Answer> {
    let mut table = Table::new(&[
        "run",
        "stage",
        "status",
        "started (UTC)",
        "dataset",
        "seed",
        "settings",
        "final %",
        "best %",
    ]);
    let mut data = Vec::new();
    for (run, metrics) in runs.iter().zip(metrics) {
        let manifest = &run.manifest;
        table.row(vec![
            run.name.clone(),
            manifest.stage.clone(),
            run.status().to_string(),
            run.started(),
            settings::dataset(run),
            settings::seeds(run),
            settings::summary(run),
            percent(metrics.final_test_accuracy),
            percent(metrics.best_test_accuracy),
        ]);
        data.push(json!({
            "run": run.name,
            "manifest": run.place,
            "stage": manifest.stage,
            "status": run.status(),
            "started": manifest.started,
            "ended": manifest.ended,
            "dataset": run.setting("dataset.kind"),
            "seeds": manifest.seeds,
            "overrides": manifest.overrides,
            "settings": settings::summary(run),
            "final_test_accuracy": metrics.final_test_accuracy,
            "best_test_accuracy": metrics.best_test_accuracy,
            "error": manifest.error,
        }));
    }
    Answer::new(table, data)
}
