//! Loads the dataset that a file was made of, named by its manifest or by overrides.

use super::run::Run;
use crate::artifact::fault::folder_of;
use crate::artifact::json;
use crate::config::{Request, compose, list, quoted};
use crate::data::{self, Dataset, DatasetKind, DatasetSettings};
use crate::error::{During, Error};
use crate::run::manifest;
use crate::runtime::device;
use anyhow::{Context, Result, bail};
use std::path::Path;
use tch::Device;

/// The keys and groups whose overrides choose a dataset, its settings, or the device.
pub const KEYS: &[&str] = &["dataset", "device", "experiment", "protocol", "scale"];

/// Those that choose a whole dataset; other keys of `dataset` change the settings that a run
/// recorded.
const NAMES: [&str; 5] = ["dataset", "dataset.kind", "experiment", "protocol", "scale"];

/// The beginning of the keys of the group `dataset`.
const GROUP: &str = "dataset.";

/// Holds the dataset that a file was made of, before it is loaded.
pub struct Chosen {
    pub settings: DatasetSettings,
    pub device: Device,
    /// The run that wrote the file, if a manifest names it.
    pub made: Option<Run>,
    /// Whether overrides name the dataset.
    is_named: bool,
}

/// Returns the key of an override: `dataset.size` of `++dataset.size=8`.
fn key(typed: &str) -> &str {
    let bare = typed.trim_start_matches(['+', '~']);
    bare.split('=').next().unwrap_or(bare).trim()
}

/// Returns true for an override of a key of the group `dataset`.
pub fn is_setting(typed: &str) -> bool {
    key(typed).starts_with(GROUP)
}

/// Returns the dataset that `overrides` name, else that of the run that wrote `path`, with the
/// settings that `overrides` change. `reads` are the keys and groups that the subcommand reads;
/// `command` is what was typed, without overrides.
///
/// # Errors
/// Fails for overrides that do not compose, or that are not read; where neither overrides nor a
/// manifest name a dataset; for a device that cannot be used.
pub fn choose(path: &Path, overrides: &[String], reads: &[&str], command: &str) -> Result<Chosen> {
    let made = manifest::producer_of(path);
    let made = made
        .map(|manifest| Run::open(&manifest, String::new()))
        .transpose()?;
    let is_named = overrides.iter().any(|typed| NAMES.contains(&key(typed)));
    let recorded = made.as_ref().filter(|_| !is_named);
    let recorded = recorded.map(Run::config).transpose()?;
    // Which keys of `dataset` there are depends on the kind.
    let changes = overrides.iter().any(|typed| is_setting(typed));
    let kind = recorded.as_ref().filter(|_| changes);
    let kind = kind.map(|config| format!("dataset.kind={}", config.dataset.kind));
    let request = Request {
        overrides: kind.into_iter().chain(overrides.iter().cloned()).collect(),
        ..Request::default()
    };
    let config = compose(&request)?.config;
    refuse_unread(overrides, reads, command)?;
    let settings = match recorded {
        Some(recorded) => {
            with_environment(changed(&recorded.dataset, &config.dataset, overrides)?)?
        }
        None if is_named => config.dataset,
        None => bail!(unknown(path, command)),
    };
    Ok(Chosen {
        settings,
        device: device::choose(&config.device)?,
        made,
        is_named,
    })
}

/// Refuses overrides of keys that the subcommand does not read.
fn refuse_unread(overrides: &[String], reads: &[&str], command: &str) -> Result<()> {
    // A key itself, one below it, or the group that it is in.
    let within = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let is_read = |key: &str| {
        let mut reads = reads.iter();
        reads.any(|read| within(key, read) || within(read, key))
    };
    match overrides.iter().find(|typed| !is_read(key(typed))) {
        None => Ok(()),
        Some(typed) => bail!(
            Error::usage(format!("`{command}` does not read `{}`", key(typed)))
                .note("from", format!("command line `{typed}`"))
                .note("available", list(reads))
        ),
    }
}

/// Returns the settings that a run recorded, but those that `overrides` set as they are in
/// `composed`.
fn changed(
    recorded: &DatasetSettings,
    composed: &DatasetSettings,
    overrides: &[String],
) -> Result<DatasetSettings> {
    let (mut settings, composed) = (json::value(recorded)?, json::value(composed)?);
    let keys = overrides.iter().map(|typed| key(typed));
    for name in keys.filter_map(|key| key.strip_prefix(GROUP)) {
        settings[name] = composed[name].clone();
    }
    Ok(serde_json::from_value(settings)?)
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

impl Chosen {
    /// Loads the dataset. `command` is what was typed, without overrides.
    ///
    /// # Errors
    /// Fails for an unreadable dataset; another than the run's, with the settings that differ.
    pub fn load(&self, command: &str) -> Result<Dataset> {
        let dataset = self.read()?;
        match self.difference(&dataset, command) {
            Some(error) => bail!(error),
            None => Ok(dataset),
        }
    }

    /// Loads the dataset as [`load`](Self::load) does, but only warns where overrides name another
    /// than the run's: that of a client, perhaps, which no run at the server saw.
    ///
    /// # Errors
    /// Fails as [`load`](Self::load) does, where overrides name none.
    pub fn load_named(&self, command: &str) -> Result<Dataset> {
        if !self.is_named {
            return self.load(command);
        }
        let dataset = self.read()?;
        if let Some(error) = self.difference(&dataset, command) {
            tracing::warn!("{error}");
        }
        Ok(dataset)
    }

    fn read(&self) -> Result<Dataset> {
        data::load(&self.settings, self.device)
            .within("dataset")
            .context("loading the dataset")
    }

    /// Returns the error for another dataset than the run's, as far as its manifest tells.
    fn difference(&self, dataset: &Dataset, command: &str) -> Option<Error> {
        let made = &self.made.as_ref()?.manifest;
        let expected = made.fingerprint()?;
        if expected == dataset.fingerprint {
            return None;
        }
        let error = Error::failed("this is not the dataset that was used")
            .note("expected", format!("fingerprint {expected}"))
            .note(
                "found",
                format!("{} with fingerprint {}", dataset.name, dataset.fingerprint),
            );
        let error = made.name_dataset(error, &self.settings);
        Some(error.hint(format!(
            "name the one that was: `{command} {} dataset.size=…`",
            example(self.settings.kind)
        )))
    }
}
