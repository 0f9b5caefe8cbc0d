//! `inspect verify`: reports recorded files that have changed since.

use super::{Answer, find};
use crate::error::Error;
use crate::report::Table;
use crate::run::manifest::{Problem, check};
use crate::words::counted;
use anyhow::{Result, bail};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// Folder whose runs are checked
    #[arg(value_name = "DIR", default_value = "outputs")]
    folder: PathBuf,
}

impl Request {
    /// Hashes every recorded file again. An input that is gone is counted but is no finding: what
    /// was made from it stays valid.
    ///
    /// # Errors
    /// No run there. Findings are the answer's failure.
    pub fn answer(&self) -> Result<Answer> {
        let (runs, broken) = find::below(&self.folder)?;
        if runs.is_empty() && broken.is_empty() {
            bail!(find::no_run(&self.folder));
        }
        let mut table = Table::new(&["run", "role", "file", "problem", "recorded", "found"]);
        let (mut data, mut gone, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
        let (mut files, mut hashed) = (0, 0);
        for run in &runs {
            files += run.manifest.inputs.len() + run.manifest.outputs.len();
            if !run.is_done() {
                unfinished.push(format!("{} ({})", run.name, run.status()));
            }
            let check = check(&run.place)?;
            hashed += check.hashed;
            gone.extend(
                check
                    .gone
                    .iter()
                    .map(|input| json!({"run": run.name, "role": input.role, "file": input.path})),
            );
            for finding in check.findings {
                let (problem, recorded, found) = match &finding.problem {
                    Problem::Missing => ("missing", "", ""),
                    Problem::Changed { recorded, found } => {
                        ("changed", recorded.as_str(), found.as_str())
                    }
                };
                let short = |hash: &str| hash.chars().take(12).collect::<String>();
                let path = finding.path.display().to_string();
                table.row(vec![
                    run.name.clone(),
                    finding.role.clone(),
                    path,
                    problem.into(),
                    short(recorded),
                    short(found),
                ]);
                data.push(json!({
                    "run": run.name, "role": finding.role, "file": finding.path,
                    "problem": problem, "recorded": recorded, "found": found,
                }));
            }
        }
        let findings = data.len() + broken.len();
        let mut text = if data.is_empty() {
            String::new()
        } else {
            format!("{table}\n\n")
        };
        for error in &broken {
            text += &format!("{error}\n\n");
        }
        text += &format!(
            "{}, {}: ",
            counted(runs.len(), "run"),
            counted(files, "recorded file")
        );
        if !gone.is_empty() {
            text += &format!("{hashed} checked, ");
        }
        text += if findings == 0 {
            "all unchanged"
        } else {
            "not all unchanged"
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
                "findings": data, "damaged_manifests": damaged, "unfinished": unfinished}),
        )?;
        if findings > 0 {
            let what = if findings == 1 {
                "one file is".into()
            } else {
                format!("{findings} files are")
            };
            answer.failure = Some(
                Error::failed(format!("{what} missing, changed or damaged"))
                    .hint("restore them, or make the run again with `overwrite=true`"),
            );
        }
        Ok(answer)
    }
}
