//! Loads the dataset that a file was made of, named by its manifest or by overrides.

use super::run::Run;
use crate::artifact::fault::folder_of;
use crate::config::{Request, compose, quoted};
use crate::data::{self, Dataset, DatasetKind, DatasetSettings};
use crate::error::{During, Error};
use crate::run::manifest::{self, Manifest};
use crate::runtime::device;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Returns the dataset settings that `overrides` compose, else those of the run that wrote `path`;
/// and the manifest of that run. `command` is what was typed, without overrides.
///
/// # Errors
/// Fails for overrides that do not compose; neither overrides nor a manifest.
pub fn settings(
    path: &Path,
    overrides: &[String],
    command: &str,
) -> Result<(DatasetSettings, Option<Manifest>)> {
    let made = manifest::producer_of(path);
    let made = made
        .map(|manifest| Run::open(&manifest, String::new()))
        .transpose()?;
    let settings = match (overrides, &made) {
        ([], Some(run)) => with_environment(run.config()?.dataset)?,
        ([], None) => bail!(unknown(path, command)),
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
fn unknown(path: &Path, command: &str) -> Error {
    // Teachers of PyTorch have other endings.
    let file = if path.is_file() {
        path
    } else {
        folder_of(path)
    };
    Error::usage("no manifest says which dataset this belongs to")
        .note("file", file.display().to_string())
        .hint(format!(
            "name the one that it was made of: `{command} dataset=NAME dataset.root=FOLDER`, for \
             example `{command} dataset=digits`"
        ))
}

/// Returns overrides that choose a dataset; digits have no folder.
fn example(kind: DatasetKind) -> String {
    match kind {
        DatasetKind::Digits => format!("dataset={kind}"),
        _ => format!("dataset={kind} dataset.root=PATH"),
    }
}

/// Loads the dataset of `settings`, onto the GPU if there is one, for the run with the manifest
/// `made`, if there is one. `command` is what was typed, without overrides.
///
/// # Errors
/// Fails for an unreadable dataset; another than the run's, with the settings that differ.
pub fn load(made: Option<&Manifest>, settings: &DatasetSettings, command: &str) -> Result<Dataset> {
    let dataset = data::load(settings, device::choose("auto")?)
        .within("dataset")
        .context("loading the dataset")?;
    let expected = made.and_then(|made| Some((made, made.fingerprint()?)));
    match expected {
        Some((made, expected)) if expected != dataset.fingerprint => {
            let error = Error::failed("this is not the dataset that was used")
                .note("expected", format!("fingerprint {expected}"))
                .note(
                    "found",
                    format!("{} with fingerprint {}", dataset.name, dataset.fingerprint),
                );
            bail!(made.name_dataset(error, settings).hint(format!(
                "name the one that was: `{command} {} dataset.size=…`",
                example(settings.kind)
            )))
        }
        _ => Ok(dataset),
    }
}
