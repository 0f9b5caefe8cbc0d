//! `inspect verify` reports recorded files that have changed since.

use super::format::short;
use super::run::Run;
use super::{Answer, find};
use crate::error::Error;
use crate::report::Table;
use crate::run::manifest::{Finding, Problem, check};
use crate::words::counted;
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// Folder whose runs are checked
    #[arg(value_name = "DIR", default_value = "outputs")]
    folder: PathBuf,
}

/// Holds what was found in all runs.
struct Findings {
    /// Files that are recorded, and those of them that are there and were hashed.
    files: usize,
    hashed: usize,
    /// Inputs that are gone.
    gone: Vec<Value>,
    /// Files that are missing, have changed or cannot be read, as JSON and as a table: a line for
    /// each run that records one.
    data: Vec<Value>,
    table: Table,
    /// The paths of these files.
    faulty: BTreeSet<PathBuf>,
    /// Why files cannot be read.
    unreadable: BTreeSet<String>,
}

impl Findings {
    fn new() -> Self {
        Self {
            files: 0,
            hashed: 0,
            gone: Vec::new(),
            data: Vec::new(),
            faulty: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            table: Table::new(&["run", "role", "file", "problem", "recorded", "found"]),
        }
    }

    /// Hashes every recorded file of a run again.
    fn add(&mut self, run: &Run) -> Result<()> {
        self.files += run.manifest.inputs.len() + run.manifest.outputs.len();
        let check = check(&run.path)?;
        self.hashed += check.hashed;
        let gone = check.gone.iter();
        self.gone.extend(
            gone.map(|input| json!({"run": run.name, "role": input.role, "file": input.path})),
        );
        for Finding {
            role,
            path,
            problem,
        } in check.findings
        {
            let (problem, recorded, found) = match &problem {
                Problem::Missing => ("missing", "", ""),
                Problem::Changed { recorded, found } => {
                    ("changed", recorded.as_str(), found.as_str())
                }
                Problem::Unreadable(why) => {
                    self.unreadable.insert(why.clone());
                    ("not readable", "", "")
                }
            };
            self.table.row(vec![
                run.name.clone(),
                role.clone(),
                path.display().to_string(),
                problem.into(),
                short(recorded),
                short(found),
            ]);
            self.data.push(json!({
                "run": run.name, "role": role, "file": path,
                "problem": problem, "recorded": recorded, "found": found,
            }));
            self.faulty.insert(path);
        }
        Ok(())
    }
}

impl Request {
    /// Hashes every recorded file again. An input that is gone is counted but is no finding: what
    /// was made from it stays valid.
    ///
    /// # Errors
    /// Fails when there is no run there. Findings are the answer's failure.
    pub fn answer(&self) -> Result<Answer> {
        let (runs, broken) = find::below(&self.folder)?;
        let mut findings = Findings::new();
        runs.iter().try_for_each(|run| findings.add(run))?;
        let unfinished: Vec<String> = runs
            .iter()
            .filter(|run| !run.is_done())
            .map(|run| format!("{} ({})", run.name, run.status()))
            .collect();
        let Findings {
            files,
            hashed,
            gone,
            data,
            table,
            faulty,
            unreadable,
        } = &findings;
        let faults = faulty.len() + broken.len();
        let mut text = match data.is_empty() {
            true => String::new(),
            false => format!("{table}\n\n"),
        };
        for why in unreadable {
            text += &format!("{why}\n\n");
        }
        for error in &broken {
            text += &format!("{error}\n\n");
        }
        text += &format!(
            "{}, {}: ",
            counted(runs.len(), "run"),
            counted(*files, "recorded file")
        );
        if !gone.is_empty() {
            text += &format!("{hashed} checked, ");
        }
        text += match faults {
            0 => "all unchanged",
            _ => "not all unchanged",
        };
        if !gone.is_empty() {
            text += &format!("; {} no longer there", counted(gone.len(), "input"));
        }
        if !unfinished.is_empty() {
            text += &format!("\nnot finished: {}", unfinished.join(", "));
        }
        let damaged: Vec<String> = broken.iter().map(ToString::to_string).collect();
        let mut answer = Answer::new(
            text,
            json!({"runs": runs.len(), "files": files, "checked": hashed, "inputs_gone": gone,
                "findings": data, "unreadable": unreadable, "damaged_manifests": damaged,
                "unfinished": unfinished}),
        )?;
        answer.failure = failure(faults);
        Ok(answer)
    }
}

/// Returns the error of so many faulty files, if there are any.
fn failure(faulty: usize) -> Option<Error> {
    let what = match faulty {
        0 => return None,
        1 => "one file is".into(),
        _ => format!("{faulty} files are"),
    };
    let error = Error::failed(format!("{what} missing, changed or damaged"));
    Some(error.hint("restore them, or make the run again with `overwrite=true`"))
}
