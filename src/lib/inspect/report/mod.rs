//! `inspect report` writes one HTML file of a run, an experiment or a sweep. Everything comes from
//! the files that the stages wrote; no dataset is read, so it works wherever the folder is copied
//! to.
//!
//! Each section of the page has a file of its own and is left out where it has no content; `plots`
//! has the plots of all.

mod baselines;
mod initial;
mod plots;
mod provenance;
mod result;
mod splits;
mod students;
mod teachers;

use super::format::size;
use super::run::Entry;
use super::{Answer, find, out, settings};
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
    /// The HTML file to write; if not given, `report.html` in the folder, or `RUN.report.html`
    /// beside the run
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

impl Request {
    /// Writes the page; returns its path.
    ///
    /// # Errors
    /// Fails when there is no run there; a file that cannot be written. Metrics that are damaged or
    /// changed are left out with a warning.
    pub fn answer(&self) -> Result<Answer> {
        out::check(self.out.as_deref(), out::PAGE)?;
        let runs = match self.folder.is_dir() {
            true => find::some_below(&self.folder)?,
            false => find::all(&self.folder)?,
        };
        let warn = |error: &Error| tracing::warn!("left out of the report: {error}");
        let entries = runs.into_iter().map(|run| Entry::new(run, warn));
        let entries: Vec<Entry> = entries.collect();
        let out = self.out.clone().unwrap_or_else(|| self.beside());
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

    /// Returns where the page goes without `--out`.
    fn beside(&self) -> PathBuf {
        if self.folder.is_dir() {
            return self.folder.join("report.html");
        }
        // Names may have points: `init.v1`.
        let mut name = self.folder.file_name().unwrap_or_default().to_owned();
        name.push(".report.html");
        self.folder.with_file_name(name)
    }

    /// Returns the page with all its sections.
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
        page.section("Result", result::result(&students, &teachers));
        page.section("Split", splits::splits(&splits, &teachers)?);
        page.section("Teachers", teachers::teachers(&teachers)?);
        page.section("Initial batches", initial::initial(&initial));
        page.section("Student", students::students(&students)?);
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

/// Returns the line below the title: dataset, time and versions.
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
