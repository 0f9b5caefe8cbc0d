//! A run on disk: its manifest, the files it names, what its metrics say.

pub use super::metrics::{Epoch, Metrics};
use crate::artifact::lock::Lock;
use crate::config::Config;
use crate::data::{self, Dataset, DatasetSettings};
use crate::error::{During, Error, Result};
pub use crate::run::Comparison;
use crate::run::job::lock_path;
use crate::run::manifest;
use crate::run::manifest::{FileRecord, Manifest, Status};
use crate::run::weights::{self, Card};
use crate::runtime::device;
use crate::runtime::progress::duration;
use serde_json::Value;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// A manifest that was found.
pub struct Run {
    /// Where the manifest is.
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

    /// How far it came, as it is today: what says `running` and has no process at it any more was
    /// killed.
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

    /// Where a recorded file is, named as the user named the run.
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

    /// Where the output of that role is, if there is one.
    pub fn output(&self, role: &str) -> Option<PathBuf> {
        let record = self
            .manifest
            .outputs
            .iter()
            .find(|record| record.role == role)?;
        Some(record.place(&self.place))
    }

    /// Outputs of a role with one of the endings.
    pub fn outputs(&self, role: &str) -> impl Iterator<Item = PathBuf> {
        let of_role = self
            .manifest
            .outputs
            .iter()
            .filter(move |record| record.role == role);
        of_role.map(|record| record.place(&self.place))
    }

    /// The teachers that the run was given, in order.
    pub fn teachers(&self) -> Vec<PathBuf> {
        let place = |node: usize| {
            let role = format!("teacher{node}");
            let record = self
                .manifest
                .inputs
                .iter()
                .find(|record| record.role == role)?;
            Some(record.place(&self.place))
        };
        (0..).map_while(place).collect()
    }

    /// Its metrics; none for a stage that has no accuracy, a run that did not come that far, or a
    /// file that is gone.
    ///
    /// # Errors
    /// A file that is damaged, or is not the one that the run wrote: nobody vouches for its
    /// numbers.
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

    /// What it recorded of its metrics' file.
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
        })
    }

    /// A value of the config by its dotted key.
    pub fn setting(&self, key: &str) -> &Value {
        key.split('.')
            .fold(&self.manifest.config, |value, part| &value[part])
    }

    /// What the weights that it read or wrote say of classes and normalisation; none if they are
    /// gone or say nothing.
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

    /// `2026-11-22 04:39`, in UTC.
    pub fn started(&self) -> String {
        self.manifest
            .started
            .replace('T', " ")
            .chars()
            .take(16)
            .collect()
    }

    /// How long it took, if it has ended.
    pub fn took(&self) -> Option<String> {
        let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let spent =
            at(self.manifest.ended.as_deref()?)?.duration_since(at(&self.manifest.started)?);
        Some(duration(Duration::try_from(spent).ok()?))
    }
}

/// The card in the metadata of a safetensors file; none in a file that is not one of ours.
pub fn card_of(path: &Path) -> Result<Option<Card>> {
    let ours = path
        .extension()
        .is_some_and(|extension| extension == "safetensors");
    match ours {
        true => weights::card(&crate::artifact::tensors::metadata(path)?)
            .map_err(|error| error.note("file", path.display().to_string())),
        false => Ok(None),
    }
}

/// The dataset that a run was made of, on the device there is, refused if it is not that one.
///
/// # Errors
/// An unreadable dataset; another fingerprint than `expected`.
pub fn dataset(settings: &DatasetSettings, expected: Option<&str>) -> Result<Dataset> {
    let dataset = data::load(settings, device::choose("auto")?).during(|| "loading the dataset")?;
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
                ))
        }
        _ => Ok(dataset),
    }
}

/// `98.6`, in percent, or a dash.
pub fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or("–".into(), |share| format!("{:.1}", 100.0 * share))
}

/// A number of bytes: `318 B`, `319.0 kB`, `44.8 MB`, `1.2 GB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
