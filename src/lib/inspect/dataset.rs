//! Loads the dataset that a file was made of, named by its manifest or by overrides.

use super::run::Run;
use crate::config::{Request, compose, quoted};
use crate::data::{self, Dataset, DatasetSettings};
use crate::error::{During, Error};
use crate::run::manifest;
use crate::runtime::device;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Returns the dataset settings that `overrides` compose, else those of the run that wrote `path`;
/// and the fingerprint it must have.
///
/// # Errors
/// Fails for overrides that do not compose; neither overrides nor a manifest.
pub fn settings(path: &Path, overrides: &[String]) -> Result<(DatasetSettings, Option<String>)> {
    let made = manifest::producer_of(path);
    let made = made
        .map(|manifest| Run::open(&manifest, String::new()))
        .transpose()?;
    let fingerprint = made.as_ref().and_then(|run| run.manifest.fingerprint());
    let fingerprint = fingerprint.map(str::to_owned);
    let settings = match (overrides, made) {
        ([], Some(run)) => with_environment(run.config()?.dataset)?,
        ([], None) => bail!(unknown(path)),
        _ => {
            let request = Request {
                overrides: overrides.to_vec(),
                ..Request::default()
            };
            compose(&request)?.config.dataset
        }
    };
    Ok((settings, fingerprint))
}

/// Returns settings of which a run recorded the root as a reference to an environment variable,
/// with what that stands for here.
fn with_environment(settings: DatasetSettings) -> Result<DatasetSettings> {
    let root = settings
        .root
        .as_deref()
        .map(|root| root.display().to_string());
    let Some(root) = root.filter(|root| root.contains("${oc.env:")) else {
        return Ok(settings);
    };
    let request = Request {
        overrides: vec![
            "dataset.kind=image_folder".into(),
            format!("dataset.root={}", quoted(&root)),
        ],
        ..Request::default()
    };
    Ok(DatasetSettings {
        root: compose(&request)?.config.dataset.root,
        ..settings
    })
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

/// Loads the dataset that a run was made of, onto the GPU if there is one.
///
/// # Errors
/// Fails for an unreadable dataset; another fingerprint than `expected`.
pub fn load(settings: &DatasetSettings, expected: Option<&str>) -> Result<Dataset> {
    let dataset = data::load(settings, device::choose("auto")?)
        .within("dataset")
        .context("loading the dataset")?;
    match expected {
        Some(expected) if expected != dataset.fingerprint => {
            bail!(Error::failed("this is not the dataset that was used")
                .note("expected", format!("fingerprint {expected}"))
                .note(
                    "found",
                    format!("{} with fingerprint {}", dataset.name, dataset.fingerprint),
                )
                .hint(
                    "say which: `dataset=NAME dataset.root=FOLDER dataset.size=…` behind the file",
                ))
        }
        _ => Ok(dataset),
    }
}
