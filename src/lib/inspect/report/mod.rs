//! `inspect report`: one HTML file of a run, an experiment or a sweep. Everything comes from the
//! files that the stages wrote; no dataset is read, so it works wherever the folder is copied to.

mod baselines;
mod plots;
mod provenance;
mod sections;

use super::run::{Metrics, Run, size};
use super::{Answer, find, settings};
use crate::artifact::atomic;
use crate::error::Error;
use crate::report::html::Page;
use crate::words::counted;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// A run, or a folder with all runs of an experiment
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The HTML file to write; `DIR/report.html` if not given
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// A run with what it measured.
pub struct Entry {
    pub run: Run,
    pub metrics: Metrics,
}

impl Entry {
    fn is(&self, stage: &str) -> bool {
        self.run.manifest.stage == stage
    }
}

impl Request {
    /// # Errors
    /// No run there; a file that cannot be written. Metrics that are damaged or changed are left
    /// out with a warning.
    pub fn answer(&self) -> Result<Answer> {
        let runs = match self.folder.is_dir() {
            true => find::some_below(&self.folder)?,
            false => find::all(&self.folder)?,
        };
        let entry = |run: Run| {
            let read = run.metrics().map_err(Error::from);
            let read = read.inspect_err(|error| tracing::warn!("left out of the report: {error}"));
            Entry {
                metrics: read.unwrap_or_default().unwrap_or_default(),
                run,
            }
        };
        let entries: Vec<Entry> = runs.into_iter().map(entry).collect();
        let out = self
            .out
            .clone()
            .unwrap_or_else(|| match self.folder.is_dir() {
                true => self.folder.join("report.html"),
                false => self.folder.with_extension("report.html"),
            });
        let html = self.page(&entries)?.render();
        atomic::write(&out, html.as_bytes())?;
        Answer::new(
            format!(
                "{}, {}\nreport: {}",
                counted(entries.len(), "run"),
                size(html.len() as u64),
                out.display()
            ),
            json!({"runs": entries.len(), "bytes": html.len(), "report": out}),
        )
    }

    fn page(&self, entries: &[Entry]) -> Result<Page> {
        let of = |stage: &str| {
            entries
                .iter()
                .filter(|entry| entry.is(stage))
                .collect::<Vec<_>>()
        };
        let (splits, teachers) = (of("split_data"), of("train_teachers"));
        let (initial, students) = (of("generate_initial"), of("train_student"));
        let folder = self
            .folder
            .canonicalize()
            .unwrap_or_else(|_| self.folder.clone());
        let name = folder
            .file_name()
            .map_or("runs".into(), |name| name.to_string_lossy().into_owned());
        let mut page = Page::new(&name, &lead(entries));
        page.section("Result", sections::result(&students, &teachers));
        page.section("Split", sections::splits(&splits, &teachers)?);
        page.section("Teachers", sections::teachers(&teachers)?);
        page.section("Initial batches", sections::initial(&initial));
        page.section("Student", sections::students(&students)?);
        let baselines: Vec<_> = entries
            .iter()
            .filter(|entry| baselines::is_baseline(entry))
            .collect();
        page.section("Baselines", baselines::baselines(&baselines)?);
        page.section("Runs", provenance::runs(entries));
        page.section("Settings and files", provenance::provenance(entries)?);
        Ok(page)
    }
}

/// Returns dataset, time and versions.
fn lead(entries: &[Entry]) -> String {
    let mut datasets: Vec<String> = entries
        .iter()
        .map(|entry| settings::dataset(&entry.run))
        .collect();
    datasets.sort();
    datasets.dedup();
    let times = entries.iter().map(|entry| entry.run.started());
    let (first, last) = (
        times.clone().min().unwrap_or_default(),
        times.max().unwrap_or_default(),
    );
    let mut versions: Vec<String> = entries
        .iter()
        .map(|entry| &entry.run.manifest)
        .map(|made| {
            format!(
                "fed-distill {}, libtorch {}, {}",
                made.versions.fed_distill, made.versions.libtorch, made.device
            )
        })
        .collect();
    versions.sort();
    versions.dedup();
    let when = if first == last {
        first
    } else {
        format!("{first} to {last}")
    };
    format!(
        "{}. {when} UTC. {}.",
        datasets.join(", "),
        versions.join("; ")
    )
}
