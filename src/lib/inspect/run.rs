//! A run on disk: its manifest, the files it names, its metrics.

pub use super::metrics::{Epoch, Metrics};
use crate::artifact::lock::Lock;
use crate::config::Config;
use crate::data::{self, Dataset, DatasetSettings};
use crate::error::{During, Error};
pub use crate::run::Comparison;
use crate::run::job::lock_path;
use crate::run::manifest;
use crate::run::manifest::{FileRecord, Manifest, Status};
use crate::run::weights::{self, Card};
use crate::runtime::device;
use crate::runtime::progress::duration;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// A manifest that was found.
pub struct Run {
    /// The path of the manifest.
    pub place: PathBuf,
    /// The run as it is listed: `student`, `teachers/teacher0`, `split`.
    pub name: String,
    pub manifest: Manifest,
}

impl Run {
    /// # Errors
    /// A manifest that is missing or damaged.
    pub fn open(place: &Path, name: String) -> Result<Self> {
        let manifest = manifest::existing(place)?
            .ok_or_else(|| Error::failed(format!("there is no manifest `{}`", place.display())))?;
        Ok(Self {
            place: place.to_path_buf(),
            name,
            manifest,
        })
    }

    pub fn folder(&self) -> &Path {
        self.place
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    pub fn is_done(&self) -> bool {
        self.manifest.status == Status::Done
    }

    /// Returns the status as of today: a run that is recorded as `running` and has no process any
    /// more was killed.
    pub fn status(&self) -> String {
        let alive = || Lock::is_held(&lock_path(&self.place));
        match self.manifest.status {
            Status::Running if !alive() => "killed".into(),
            status => status.to_string(),
        }
    }

    pub fn is_student(&self) -> bool {
        self.manifest.stage == "train_student"
    }

    /// Returns where a recorded file is, as a path that begins as the user named the run.
    pub fn shown(&self, record: &FileRecord) -> PathBuf {
        let mut path = self.folder().to_path_buf();
        for part in record.path.components() {
            // Shorter by name alone, as long as there is a name to take away.
            match part {
                Component::ParentDir if path.file_name().is_some() => {
                    path.pop();
                }
                part => path.push(part),
            }
        }
        path
    }

    /// Returns the path of the output of that role, if there is one.
    pub fn output(&self, role: &str) -> Option<PathBuf> {
        let record = self
            .manifest
            .outputs
            .iter()
            .find(|record| record.role == role)?;
        Some(record.current_path(&self.place))
    }

    /// Returns the paths of all outputs of a role.
    pub fn outputs(&self, role: &str) -> impl Iterator<Item = PathBuf> {
        let of_role = self
            .manifest
            .outputs
            .iter()
            .filter(move |record| record.role == role);
        of_role.map(|record| record.current_path(&self.place))
    }

    /// Returns the paths of the teachers that the run was given, in order.
    pub fn teachers(&self) -> Vec<PathBuf> {
        let place = |node: usize| {
            let role = format!("teacher{node}");
            let record = self
                .manifest
                .inputs
                .iter()
                .find(|record| record.role == role)?;
            Some(record.current_path(&self.place))
        };
        (0..).map_while(place).collect()
    }

    /// Returns its metrics; `None` for a stage that has no accuracy, a run that ended before it had
    /// any, or a file that is gone.
    ///
    /// # Errors
    /// A file that is damaged, or has changed since the run wrote it.
    pub fn metrics(&self) -> Result<Option<Metrics>> {
        // The metrics of initial batches are a list of these.
        let trains = self.manifest.stage != "generate_initial";
        let Some(record) = self.metrics_record().filter(|_| trains) else {
            return Ok(None);
        };
        let path = self.shown(record);
        if !path.exists() {
            return Ok(None);
        }
        manifest::check_output(&path, (&self.place, &self.manifest), record)?;
        Metrics::read(&self.manifest.stage, &path).map(Some)
    }

    /// Returns the record of its metrics file.
    pub fn metrics_record(&self) -> Option<&FileRecord> {
        self.manifest
            .outputs
            .iter()
            .find(|record| record.role == "metrics")
    }

    /// # Errors
    /// A config of another version of this program.
    pub fn config(&self) -> Result<Config> {
        serde_json::from_value(self.manifest.config.clone()).map_err(|error| {
            Error::failed(format!(
                "the config recorded in the manifest cannot be read: {error}"
            ))
            .note("file", self.place.display().to_string())
            .hint("it was written by another version of fed-distill")
            .caused_by(error)
            .into()
        })
    }

    /// Returns a value of the config by its dotted key.
    pub fn setting(&self, key: &str) -> &Value {
        key.split('.')
            .fold(&self.manifest.config, |value, part| &value[part])
    }

    /// Returns the card (classes, normalisation, …) of the weights that it read or wrote; `None` if
    /// they are gone or have none.
    ///
    /// # Errors
    /// A damaged file.
    pub fn card(&self) -> Result<Option<Card>> {
        let files = [
            self.output("weights"),
            self.output("initial"),
            self.output("dataset"),
        ];
        for path in files
            .into_iter()
            .flatten()
            .chain(self.teachers())
            .filter(|path| path.exists())
        {
            if let Some(card) = card_of(&path)? {
                return Ok(Some(card));
            }
        }
        Ok(None)
    }

    /// Returns when it began, as `2026-11-22 04:39` in UTC.
    pub fn started(&self) -> String {
        self.manifest
            .started
            .replace('T', " ")
            .chars()
            .take(16)
            .collect()
    }

    /// Returns how long it took, if it has ended.
    pub fn took(&self) -> Option<String> {
        let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let spent =
            at(self.manifest.ended.as_deref()?)?.duration_since(at(&self.manifest.started)?);
        Some(duration(Duration::try_from(spent).ok()?))
    }
}

/// Returns the card in the metadata of a safetensors file; `None` in a file of another program.
pub fn card_of(path: &Path) -> Result<Option<Card>> {
    let ours = path
        .extension()
        .is_some_and(|extension| extension == "safetensors");
    match ours {
        true => weights::card(&crate::artifact::tensors::metadata(path)?)
            .map_err(|error| error.note("file", path.display().to_string()).into()),
        false => Ok(None),
    }
}

/// Loads the dataset that a run was made of, onto the GPU if there is one.
///
/// # Errors
/// An unreadable dataset; another fingerprint than `expected`.
pub fn dataset(settings: &DatasetSettings, expected: Option<&str>) -> Result<Dataset> {
    let dataset = data::load(settings, device::choose("auto")?)
        .within("dataset")
        .context("loading the dataset")?;
    match expected {
        Some(expected) if expected != dataset.fingerprint => {
            Err(Error::failed("this is not the dataset that was used")
                .note("expected", format!("fingerprint {expected}"))
                .note(
                    "found",
                    format!("{} with fingerprint {}", dataset.name, dataset.fingerprint),
                )
                .hint(
                    "say which: `dataset=NAME dataset.root=FOLDER dataset.size=…` behind the file",
                )
                .into())
        }
        _ => Ok(dataset),
    }
}

/// Formats a share in percent, `98.6`, or as a dash.
pub fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or("–".into(), |share| format!("{:.1}", 100.0 * share))
}

/// Formats a number of bytes: `318 B`, `319.0 kB`, `44.8 MB`, `1.2 GB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
