//! `inspect compare`: what each method reaches, and how many bytes it sends for that. `methods`
//! reads it from the runs, `grounds` says whether they are on one dataset and split, `figure` draws
//! it, `students` sets students beside what could be had without them.

mod figure;
mod grounds;
mod methods;
mod students;

use super::run::{Metrics, Run, percent, size};
use super::{Answer, find};
use crate::error::{Error, Result};
use crate::report::Table;
use crate::run::manifest::FileRecord;
use grounds::Grounds;
use methods::Method;
use serde_json::json;
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
    /// # Errors
    /// No finished run, or one whose metrics are gone or changed; with `--out` also runs that no
    /// plot can hold; a plot that cannot be written.
    pub fn answer(&self) -> Result<Answer> {
        let found = self.find()?;
        let mut methods = Vec::new();
        for (run, metrics) in &found {
            methods::add(&mut methods, run, metrics);
        }
        let grounds = Grounds::of(&methods);
        let (plots, unplotted) = match figure::obstacle(&methods, &grounds) {
            None => (figure::save(&methods, &found, self)?, None),
            Some(error) if self.out.is_some() => return Err(error),
            Some(error) => (Vec::new(), Some(error)),
        };
        let students = students::Students::of(&found);
        let mut text = match students.len() == found.len() {
            true => students.text(),
            false => format!("{}\n\n{}", table(&methods, &grounds), remarks(&methods)),
        };
        text += &match (&unplotted, plots.last()) {
            (Some(error), _) => format!("\n\nno plot: {}", error.what()),
            (None, Some(plot)) => format!("\n\nplot: {}", plot.display()),
            (None, None) => String::new(),
        };
        Answer::new(
            text,
            json!({"students": students.data(), "methods": methods, "one_split": grounds.agree(), "plots": plots}),
        )
    }

    /// Finished runs of students and baselines, each once.
    fn find(&self) -> Result<Vec<(Run, Metrics)>> {
        let mut found = Vec::<(Run, Metrics)>::new();
        for path in &self.runs {
            let mut finished = false;
            for run in find::all(path)?.into_iter().filter(methods::is_comparable) {
                // A run that was named twice, in whatever way, is shown once.
                let place = |run: &Run| run.place.canonicalize().ok();
                if found.iter().any(|other| place(&other.0) == place(&run)) {
                    finished = true;
                    continue;
                }
                match (run.metrics()?, run.metrics_record()) {
                    (Some(metrics), _) => {
                        finished = true;
                        found.push((run, metrics));
                    }
                    (None, Some(record)) => return Err(lost(&run, record)),
                    (None, None) => {}
                }
            }
            if !finished {
                let what = methods::COMPARABLE.join(", ");
                return Err(Error::failed(format!(
                    "`{}` holds no finished student or baseline to compare",
                    path.display()
                ))
                .note("expected", format!("a run of {what}"))
                .hint("`inspect runs` lists the runs below a folder"));
            }
        }
        Ok(found)
    }
}

/// A run whose metrics are gone.
fn lost(run: &Run, record: &FileRecord) -> Error {
    Error::failed(format!("the metrics of `{}` are missing", run.name))
        .note("file", run.shown(record).display().to_string())
        .note("from", format!("manifest {}", run.place.display()))
        .hint(format!(
            "put the file back, or make it again with `{} overwrite=true`; or name the other runs alone",
            run.manifest.stage
        ))
}

/// A line a method; dataset and split where they are not the same for all.
fn table(methods: &[Method], grounds: &Grounds) -> Table {
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
    if !grounds.agree() {
        headers.extend(["dataset", "split"]);
    }
    let mut table = Table::new(&headers);
    for method in methods {
        let count = |count: Option<usize>| count.map_or("–".into(), |count| count.to_string());
        let mut cells = vec![
            method.method.clone(),
            method.run.clone(),
            percent(method.final_test_accuracy),
            percent(method.best_test_accuracy),
            count(method.rounds),
            count(method.nodes),
            size(method.upload_bytes),
            size(method.download_bytes),
        ];
        if !grounds.agree() {
            let short = |hash: &Option<String>| {
                hash.as_ref()
                    .map_or("–".into(), |hash| hash.chars().take(8).collect())
            };
            cells.extend([short(&method.dataset), short(&method.split)]);
        }
        table.row(cells);
    }
    table
}

/// How to read the table.
fn remarks(methods: &[Method]) -> String {
    let has = |name: &str| methods.iter().any(|method| method.method.starts_with(name));
    let mut lines = vec!["Test accuracy; bytes of all nodes together, as serialised."];
    if has(methods::STUDENT) {
        lines.push("One-shot: each node uploads its teacher's file, label counts included, and is sent nothing.");
    }
    if has(methods::FED_MD) {
        lines.push("FedMD: mean over the nodes' own models.");
    }
    lines.join("\n")
}
