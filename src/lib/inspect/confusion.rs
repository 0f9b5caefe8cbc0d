//! `inspect confusion` shows which classes a student confuses.

use super::format::percent;
use super::run::{Metrics, Run, card_of};
use super::{Answer, find, out};
use crate::error::Error;
use crate::partition::owners;
use crate::report::{self, Table};
use anyhow::{Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Request {
    /// A student's run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The plot to write, .png or .svg
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// The whole matrix is a table for at most this many classes.
const LISTED: usize = 15;

const TITLE: &str = "Student on the test set";

/// Holds a student's confusion matrix with the names of the classes and the teachers that own them.
pub struct Matrix {
    pub counts: Vec<Vec<u64>>,
    pub classes: Vec<String>,
    /// `teacher 3`, or an empty text; `None` where the teachers are gone or have changed, or no
    /// class has an owner.
    pub owners: Option<Vec<String>>,
}

impl Matrix {
    /// Takes the matrix of a run from its `metrics`, and names from the files beside it.
    ///
    /// # Errors
    /// Fails for a run without a matrix, or with one that is not square; damaged weights.
    pub fn new(run: &Run, metrics: &Metrics) -> Result<Self> {
        let counts = metrics.confusion.clone().ok_or_else(|| {
            Error::failed(format!("`{}` recorded no confusion matrix", run.name))
                .note(
                    "found",
                    format!("a {} run of `{}`", run.status(), run.manifest.stage),
                )
                .hint("finished runs of `train_student` with test images have one")
        })?;
        if let Some(row) = counts.iter().position(|row| row.len() != counts.len()) {
            let file = run.output("metrics").unwrap_or_else(|| run.path.clone());
            bail!(
                Error::failed("the confusion matrix is not square")
                    .note("file", file.display().to_string())
                    .note("expected", format!("{0} rows of {0} counts", counts.len()))
                    .note("found", format!("{} in row {row}", counts[row].len()))
                    .hint(
                        "`inspect verify` reports whether the file was changed since it was \
                         written",
                    )
            );
        }
        let named = run
            .card()?
            .map(|card| card.classes)
            .filter(|classes| classes.len() == counts.len());
        let classes =
            named.unwrap_or_else(|| (0..counts.len()).map(|class| class.to_string()).collect());
        Ok(Self {
            owners: class_owners(run, classes.len())?,
            counts,
            classes,
        })
    }

    /// Draws the matrix; `path` ends in .svg or .png.
    fn save(&self, path: &Path) -> Result<(), Error> {
        let owners = self.owners.as_deref();
        report::confusion(path, TITLE, &self.classes, &self.counts, owners)
    }

    /// Returns the drawn matrix as SVG.
    pub fn svg(&self) -> Result<String, Error> {
        let owners = self.owners.as_deref();
        report::confusion_svg(TITLE, &self.classes, &self.counts, owners)
    }

    /// Returns the images of the class, its recall and its precision; the shares are 0..1, or
    /// `None` where nothing is counted.
    fn scores(&self, class: usize) -> (u64, Option<f64>, Option<f64>) {
        let images: u64 = self.counts[class].iter().sum();
        let predicted: u64 = self.counts.iter().map(|row| row[class]).sum();
        let right = self.counts[class][class] as f64;
        let share = |of: u64| (of > 0).then(|| right / of as f64);
        (images, share(images), share(predicted))
    }

    /// Returns the class that images of this one are most often taken for, and how often.
    fn taken_for(&self, class: usize) -> Option<(usize, u64)> {
        let others = self.counts[class]
            .iter()
            .copied()
            .enumerate()
            .filter(|&(other, count)| other != class && count > 0);
        others.max_by_key(|&(other, count)| (count, std::cmp::Reverse(other)))
    }

    /// Returns a table with a line a class.
    pub fn table(&self) -> Table {
        let owner = self.owners.as_ref().map(|_| "owner");
        let headers: Vec<&str> = ["class"]
            .into_iter()
            .chain(owner)
            .chain(["images", "recall %", "precision %", "most often taken for"])
            .collect();
        let mut table = Table::new(&headers);
        for (class, name) in self.classes.iter().enumerate() {
            let (images, recall, precision) = self.scores(class);
            let taken = self.taken_for(class);
            let mut cells = vec![name.clone()];
            cells.extend(self.owners.as_ref().map(|owners| owners[class].clone()));
            cells.extend([
                images.to_string(),
                percent(recall),
                percent(precision),
                taken.map_or(String::new(), |(other, count)| {
                    format!("{}: {count}", self.classes[other])
                }),
            ]);
            table.row(cells);
        }
        table
    }

    /// Returns the counts as a table.
    fn matrix(&self) -> Table {
        let mut headers = vec!["true \\ predicted"];
        headers.extend(self.classes.iter().map(String::as_str));
        let mut table = Table::new(&headers);
        for (name, row) in self.classes.iter().zip(&self.counts) {
            let counts = row.iter().map(|&count| {
                if count == 0 {
                    String::new()
                } else {
                    count.to_string()
                }
            });
            table.row(std::iter::once(name.clone()).chain(counts).collect());
        }
        table
    }
}

/// Returns the owner of each class by the label counts of the run's teachers; `None` where these
/// are not known or no class has an owner. Warns about teachers that are gone or have changed.
fn class_owners(run: &Run, classes: usize) -> Result<Option<Vec<String>>> {
    let Some(teachers) = run.teachers() else {
        tracing::warn!(
            "the teachers of `{}` are gone or have changed: no owners of classes are shown",
            run.name
        );
        return Ok(None);
    };
    let mut held = Vec::new();
    for path in &teachers {
        let counts = card_of(path)?.and_then(|card| card.label_counts);
        held.extend(counts.filter(|counts| counts.len() == classes));
    }
    if held.len() < teachers.len().max(2) {
        return Ok(None);
    }
    let name =
        |owner: Option<usize>| owner.map_or(String::new(), |teacher| format!("teacher {teacher}"));
    let owners: Vec<String> = owners(&held).into_iter().map(name).collect();
    Ok(Some(owners).filter(|owners| owners.iter().any(|owner| !owner.is_empty())))
}

impl Request {
    /// Returns recall and precision of each class and the matrix, and draws it.
    ///
    /// # Errors
    /// Fails when there is no such student; metrics that are gone or have changed; a plot that
    /// cannot be written.
    pub fn answer(&self) -> Result<Answer> {
        out::check(self.out.as_deref(), out::PLOT)?;
        let run = find::one(&self.run, "student", "confusion", Run::is_student)?;
        let metrics = match (run.metrics()?, run.lost_metrics()) {
            (None, Some(error)) => bail!(error),
            (metrics, _) => metrics.unwrap_or_default(),
        };
        let matrix = Matrix::new(&run, &metrics)?;
        let out = out::picture(self.out.as_deref(), run.folder(), "confusion.png");
        matrix.save(&out)?;
        let mut text = matrix.table().to_string();
        if matrix.classes.len() <= LISTED {
            text += &format!("\n\n{}", matrix.matrix());
        }
        let right: u64 = matrix
            .counts
            .iter()
            .enumerate()
            .map(|(class, row)| row[class])
            .sum();
        let all: u64 = matrix.counts.iter().flatten().sum();
        text += &format!("\n\n{right} of {all} right\nplot: {}", out.display());
        let per_class: Vec<_> = (0..matrix.classes.len())
            .map(|class| matrix.scores(class))
            .collect();
        Answer::new(
            text,
            json!({
                "run": run.path, "classes": matrix.classes, "owners": matrix.owners,
                "confusion": matrix.counts,
                "recall": per_class.iter().map(|score| score.1).collect::<Vec<_>>(),
                "precision": per_class.iter().map(|score| score.2).collect::<Vec<_>>(),
                "plot": out,
            }),
        )
    }
}
