//! `inspect runs` lists every run below a folder.

use super::format::percent;
use super::run::Entry;
use super::{Answer, find, group, settings};
use crate::error::Error;
use crate::report::Table;
use crate::words::counted;
use anyhow::Result;
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
    /// Returns the runs below the folder, or their groups.
    ///
    /// # Errors
    /// Fails when there is no such folder, or no run in it.
    pub fn answer(&self) -> Result<Answer> {
        let (runs, broken) = find::below(&self.folder)?;
        broken.iter().for_each(|error| tracing::warn!("{error}"));
        let entry = |run| Entry::new(run, |error| tracing::warn!("{error}"));
        let entries: Vec<Entry> = runs.into_iter().map(entry).collect();
        let mut answer = match self.group {
            true => group::answer(&entries)?,
            false => listed(&entries)?,
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

fn listed(entries: &[Entry]) -> Result<Answer> {
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
    for Entry { run, metrics } in entries {
        let manifest = &run.manifest;
        table.row(vec![
            run.name.clone(),
            manifest.stage.clone(),
            run.status(),
            run.started(),
            settings::dataset(run),
            settings::seeds(run),
            settings::summary(run),
            percent(metrics.final_test_accuracy),
            percent(metrics.best_test_accuracy),
        ]);
        data.push(json!({
            "run": run.name,
            "manifest": run.path,
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
