//! Loads the dataset that a file was made of, named by its manifest or by overrides.

use super::run::Run;
use crate::config::{Request, compose};
use crate::data::{self, Dataset, DatasetKind, DatasetSettings};
use crate::error::{During, Error};
use crate::run::manifest::{self, Manifest};
use crate::runtime::device;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Returns the dataset settings that `overrides` compose, else those of the run that wrote `path`;
/// and the manifest of that run.
///
/// # Errors
/// Fails for overrides that do not compose; neither overrides nor a manifest.
pub fn settings(path: &Path, overrides: &[String]) -> Result<(DatasetSettings, Option<Manifest>)> {
    let made = manifest::producer_of(path);
    let made = made
        .map(|manifest| Run::open(&manifest, String::new()))
        .transpose()?;
    let settings = match (overrides, &made) {
        ([], Some(run)) => run.config()?.dataset,
        ([], None) => bail!(unknown(path)),
        _ => {
            let request = Request {
                overrides: overrides.to_vec(),
                ..Request::default()
            };
            compose(&request)?.config.dataset
        }
    };
    Ok((settings, made.map(|run| run.manifest)))
}

/// Reports a file whose dataset nothing names.
fn unknown(path: &Path) -> Error {
    Error::usage("no manifest says which dataset this belongs to")
        .note("file", path.display().to_string())
        .hint(format!(
            "say it: `{} dataset=mnist dataset.root=FOLDER`",
            path.display()
        ))
}

/// Returns overrides that choose a dataset; digits have no folder.
fn example(kind: DatasetKind) -> String {
    match kind {
        DatasetKind::Digits => format!("dataset={kind}"),
        _ => format!("dataset={kind} dataset.root=PATH"),
    }
}

/// Loads the dataset that a run was made of, onto the GPU if there is one.
///
/// # Errors
/// Fails for an unreadable dataset; another fingerprint than `expected`.
pub fn load(settings: &DatasetSettings, expected: Option<&str>) -> Result<Dataset> {
    checked(settings, expected, |error| error)
}

/// Loads it as [`load`] does, for the run with this manifest.
///
/// # Errors
/// Fails for an unreadable dataset; another than the run's, with the settings that differ.
pub fn load_for(made: Option<&Manifest>, settings: &DatasetSettings) -> Result<Dataset> {
    let expected = made.and_then(Manifest::fingerprint);
    checked(settings, expected, |error| match made {
        Some(made) => made.name_dataset(error, settings),
        None => error,
    })
}

/// Loads it; `explain` adds to the error for another dataset.
fn checked(
    settings: &DatasetSettings,
    expected: Option<&str>,
    explain: impl Fn(Error) -> Error,
) -> Result<Dataset> {
    let dataset = data::load(settings, device::choose("auto")?)
        .within("dataset")
        .context("loading the dataset")?;
    match expected {
        Some(expected) if expected != dataset.fingerprint => {
            let error = Error::failed("this is not the dataset that was used")
                .note("expected", format!("fingerprint {expected}"))
                .note(
                    "found",
                    format!("{} with fingerprint {}", dataset.name, dataset.fingerprint),
                );
            bail!(explain(error).hint(format!(
                "say which behind the file: `{} dataset.size=…`",
                example(settings.kind)
            )))
        }
        _ => Ok(dataset),
    }
}
