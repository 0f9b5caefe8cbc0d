//! `inspect`: tables, pictures and reports of what the stages left. Reads manifests, metrics,
//! tensors and splits; writes pictures beside them (in a folder `inspect/`, or where `--out` says)
//! and changes nothing that a stage wrote.
//!
//! One file a subcommand. Each gives an [`Answer`]: a text for people, JSON for machines, and a
//! complaint if something is wrong. `run` and `find` know runs on disk, `settings` compares
//! configs, `identity` says which runs repeat each other.

mod compare;
mod confusion;
mod diff;
mod find;
mod grid;
mod group;
mod identity;
mod metrics;
mod neighbours;
mod report;
mod run;
mod runs;
mod settings;
mod show;
mod split;
mod tensors;
mod verify;

use crate::artifact::json;
use crate::error::{Error, Result};
use crate::runtime::output::say;
use crate::runtime::{interrupt, logging};
use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Looks at what the stages left: tables, pictures, a report.
#[derive(Debug, Parser)]
#[command(
    name = "inspect",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
#[command(
    after_help = "A RUN is a folder that a stage wrote, a file in it, or its manifest. Pictures go into a folder `inspect/` beside what they show."
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
    /// Hash every recorded file again; exit code 1 if one has changed or an output is missing
    /// (missing inputs are counted)
    Verify(verify::Request),
    /// Do synthetic images come close to training images? The nearest ones, and distances of unseen
    /// images to compare with
    Neighbours(neighbours::Request),
    /// One HTML file of a run or a whole experiment, readable offline
    Report(report::Request),
}

/// What a subcommand has to say.
struct Answer {
    text: String,
    json: Value,
    /// Why the exit code is 1 all the same.
    complaint: Option<Error>,
}

impl Answer {
    /// # Errors
    /// A number in `data` that JSON cannot hold.
    fn new(text: impl Display, data: impl Serialize) -> Result<Self> {
        Ok(Self {
            text: text.to_string(),
            json: json::value(&data)?,
            complaint: None,
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
    interrupt::install()?;
    let answer = match &request.what {
        What::Runs(request) => request.answer(),
        What::Show(request) => request.answer(),
        What::Diff(request) => request.answer(),
        What::Tensors(request) => request.answer(),
        What::Grid(request) => request.answer(),
        What::Split(request) => request.answer(),
        What::Confusion(request) => request.answer(),
        What::Compare(request) => request.answer(),
        What::Verify(request) => request.answer(),
        What::Neighbours(request) => request.answer(),
        What::Report(request) => request.answer(),
    }?;
    match request.json {
        true => say(format!("{:#}", answer.json))?,
        false => say(answer.text.trim_end())?,
    }
    answer.complaint.map_or(Ok(()), Err)
}

/// Where a picture of `of` goes: `out`, or `NAME` in a folder `inspect/` beside it.
fn picture(out: Option<&Path>, of: &Path, name: &str) -> PathBuf {
    let beside = if of.is_dir() {
        of
    } else {
        of.parent().unwrap_or(Path::new(""))
    };
    out.map_or_else(|| beside.join("inspect").join(name), Path::to_path_buf)
}
