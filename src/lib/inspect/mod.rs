//! `inspect` shows tables, pictures and reports of finished and unfinished runs. It reads
//! manifests, metrics, tensors and splits, writes pictures beside them (into a folder `inspect/`,
//! or to `--out`) and changes nothing that a stage wrote.
//!
//! Each subcommand has a file of its own and returns an `Answer`: a text for people, JSON for
//! machines, and an error if something is wrong. `find` and `run` read runs on disk, `metrics` what
//! they measured, `dataset` the images that they used; `settings` describes configs, and `identity`
//! tells which runs repeat each other; `recognise` says what a file is that a subcommand is not
//! for; `out` decides where a picture goes.

mod compare;
mod confusion;
mod dataset;
mod diff;
mod ensembles;
mod find;
mod format;
mod grid;
mod group;
mod identity;
mod metrics;
mod neighbours;
mod out;
mod recognise;
mod report;
mod run;
mod runs;
mod settings;
mod show;
mod split;
mod table;
mod tensors;
mod verify;

use crate::artifact::json;
use crate::error::Error;
use crate::run::guard::caught;
use crate::runtime::output;
use crate::runtime::{interrupt, logging};
use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Display;

/// Shows what the stages wrote: tables, pictures, a report.
#[derive(Debug, Parser)]
#[command(
    name = "inspect",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
#[command(
    after_help = "A RUN is a folder that a stage wrote, a file in it, or its manifest. Pictures \
    go into a folder `inspect/` beside what they show."
)]
pub struct Request {
    #[command(subcommand)]
    what: What,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List every run below a folder; `--group` gives mean ± std over seeds
    Runs(runs::Request),
    /// One run: what it was, which files it read and wrote, its settings
    Show(show::Request),
    /// Two runs: the settings that differ, then the metrics
    Diff(diff::Request),
    /// Names, types, shapes and ranges in a safetensors or PyTorch file
    Tensors(tensors::Request),
    /// A picture of the images in a synthetic dataset or an initial batch
    Grid(grid::Request),
    /// Counts, a plot and measures of label skew of a split
    Split(split::Request),
    /// The confusion matrix of a student, with the owners of the classes
    Confusion(confusion::Request),
    /// Accuracy against bytes of students and baselines on one split, with a plot; students alone:
    /// beside their teachers
    Compare(compare::Request),
    /// Methods × settings of the data, mean ± std over seeds: text, Markdown, CSV or LaTeX
    Table(table::Request),
    /// Test accuracy of every rule but `weighted_logits` that joins the teachers' predictions, of
    /// their weight average, and of each teacher
    Ensembles(ensembles::Request),
    /// Hash every recorded file again; exit code 1 if one has changed or an output is missing
    /// (missing inputs are counted)
    Verify(verify::Request),
    /// Do synthetic images come close to training images? The nearest ones, and distances of unseen
    /// images to compare with
    Neighbours(neighbours::Request),
    /// One HTML file of a run or a whole experiment, readable offline
    Report(report::Request),
}

/// Holds the result of a subcommand.
struct Answer {
    text: String,
    json: Value,
    /// The error that makes the exit code 1 although there is an answer.
    failure: Option<Error>,
}

impl Answer {
    /// Returns an answer without a failure.
    ///
    /// # Errors
    /// Fails for a number in `data` that JSON cannot hold.
    fn new(text: impl Display, data: impl Serialize) -> Result<Self> {
        Ok(Self {
            text: text.to_string(),
            json: json::value(&data)?,
            failure: None,
        })
    }
}

/// Runs the stage.
///
/// # Errors
/// Those of the subcommands: no such run or file, a damaged one, a picture that cannot be written;
/// for `verify` any finding.
pub fn run(request: Request) -> Result<()> {
    logging::init()?;
    // The others have no safe point at which they could stop: a signal ends them at once.
    if matches!(request.what, What::Ensembles(_) | What::Neighbours(_)) {
        interrupt::install()?;
    }
    // A damaged card can hold what libtorch refuses.
    let answer = caught(|| match &request.what {
        What::Runs(request) => request.answer(),
        What::Show(request) => request.answer(),
        What::Diff(request) => request.answer(),
        What::Tensors(request) => request.answer(),
        What::Grid(request) => request.answer(),
        What::Split(request) => request.answer(),
        What::Confusion(request) => request.answer(),
        What::Compare(request) => request.answer(),
        What::Table(request) => request.answer(),
        What::Ensembles(request) => request.answer(),
        What::Verify(request) => request.answer(),
        What::Neighbours(request) => request.answer(),
        What::Report(request) => request.answer(),
    })?;
    match request.json {
        true => output::print(format!("{:#}", answer.json))?,
        false => output::print(answer.text.trim_end())?,
    }
    answer.failure.map_or(Ok(()), |failure| Err(failure.into()))
}
