//! `inspect compare` shows the accuracy of each method and the bytes it sends. `methods` reads both
//! from the runs, `comparability` checks that they are on one dataset and split, `plot` draws them,
//! `students` compares students with the methods that need no student.

mod comparability;
pub(super) mod methods;
mod plot;
mod students;

use super::format::{or_dash, percent, size};
use super::run::Entry;
use super::{Answer, find, group, out};
use crate::error::Error;
use crate::report::Table;
use anyhow::{Result, bail};
use comparability::Comparability;
use methods::Method;
use serde_json::json;
use std::collections::HashSet;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// Runs of students and baselines on one split, or folders with some in them
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The plot to write, .png or .svg; without it both, in `inspect/` of the folder that holds the
    /// runs
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

impl Request {
    /// Returns a table of the methods, and draws their accuracies against bytes.
    ///
    /// # Errors
    /// Fails when there is no finished run, or one whose metrics are gone or changed; with `--out`
    /// also runs that no plot can hold; a plot that cannot be written.
    pub fn answer(&self) -> Result<Answer> {
        out::check(self.out.as_deref(), out::PLOT)?;
        let found = self.find()?;
        let mut methods = Vec::new();
        for Entry { run, metrics } in &found {
            methods::add(&mut methods, run, metrics);
        }
        let comparability = Comparability::of(&methods);
        let (plots, unplotted) = match plot::obstacle(&methods, &comparability) {
            None => (plot::save(&methods, &found, self)?, None),
            Some(error) if self.out.is_some() => bail!(error),
            Some(error) => (Vec::new(), Some(error)),
        };
        let students = students::Students::of(&found);
        let mut text = match students.len() == found.len() {
            true => students.text(),
            false => format!(
                "{}\n\n{}",
                table(&methods, &comparability),
                remarks(&methods)
            ),
        };
        text += &match (&unplotted, plots.last()) {
            (Some(error), _) => format!("\n\nno plot: {}", error.what()),
            (None, Some(plot)) => format!("\n\nplot: {}", plot.display()),
            (None, None) => String::new(),
        };
        Answer::new(
            text,
            json!({"students": students.data(), "methods": methods,
                "one_split": comparability.is_one_split(), "plots": plots}),
        )
    }

    /// Returns the finished runs of students and baselines, each once.
    fn find(&self) -> Result<Vec<Entry>> {
        let (mut found, mut left_out) = (Vec::<Entry>::new(), Vec::new());
        let mut seen = HashSet::new();
        for path in &self.runs {
            let mut finished = false;
            for run in find::all(path)?.into_iter().filter(methods::is_comparable) {
                // A run that was named twice, in whatever way, is shown once.
                let manifest = run.path.canonicalize().ok();
                if manifest.as_ref().is_some_and(|path| seen.contains(path)) {
                    finished = true;
                    continue;
                }
                if !run.is_done() {
                    left_out.push(format!("{} ({})", run.name, run.status()));
                    continue;
                }
                if let Some(metrics) = run.metrics()? {
                    finished = true;
                    seen.extend(manifest);
                    found.push(Entry { run, metrics });
                } else if let Some(error) = run.lost_metrics() {
                    bail!(error.hint("name the other runs alone to compare those"));
                }
            }
            if !finished {
                let what = methods::COMPARABLE.join(", ");
                bail!(
                    Error::usage(format!(
                        "`{}` holds no finished student or baseline to compare",
                        path.display()
                    ))
                    .note("expected", format!("a run of {what}"))
                    .hint("`inspect runs` lists the runs below a folder")
                );
            }
        }
        group::warn_about(&left_out);
        Ok(found)
    }
}

/// Returns a table with a line a method; with dataset and split where they are not the same for
/// all.
fn table(methods: &[Method], comparability: &Comparability) -> Table {
    let mut headers = vec![
        "method",
        "run",
        "final %",
        "best %",
        "rounds",
        "nodes",
        "uploaded",
        "downloaded",
    ];
    if !comparability.is_one_split() {
        headers.extend(["dataset", "split"]);
    }
    let mut table = Table::new(&headers);
    for method in methods {
        let mut cells = vec![
            method.method.clone(),
            method.run.clone(),
            percent(method.final_test_accuracy),
            percent(method.best_test_accuracy),
            or_dash(method.rounds),
            or_dash(method.nodes),
            size(method.upload_bytes),
            size(method.download_bytes),
        ];
        if !comparability.is_one_split() {
            let short = |hash: &Option<String>| {
                or_dash(
                    hash.as_ref()
                        .map(|hash| hash.chars().take(8).collect::<String>()),
                )
            };
            cells.extend([short(&method.dataset), short(&method.split)]);
        }
        table.row(cells);
    }
    table
}

/// Explains how to read the table.
fn remarks(methods: &[Method]) -> String {
    let has = |name: &str| methods.iter().any(|method| method.method.starts_with(name));
    let mut lines = vec!["Test accuracy; bytes of all nodes together, as serialised."];
    if methods.iter().any(Method::is_student) {
        lines.push(
            "One-shot: each node uploads its teacher's file, label counts included, and is \
        sent nothing.",
        );
    }
    if has(methods::FED_MD) {
        lines.push("FedMD: mean over the nodes' own models.");
    }
    lines.join("\n")
}
