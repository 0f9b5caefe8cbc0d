//! Reads a run on disk: its manifest, the files it names, its metrics.

pub use super::metrics::{Epoch, Metrics};
use crate::artifact::lock::Lock;
use crate::artifact::{hash, json, tensors};
use crate::config::Config;
use crate::error::Error;
pub use crate::run::Comparison;
use crate::run::job::lock_path;
use crate::run::manifest;
use crate::run::manifest::{FileRecord, Manifest, Status};
use crate::run::weights::{self, Card};
use crate::runtime::progress::duration;
use anyhow::Result;
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

/// Holds a run, found by its manifest.
pub struct Run {
    /// The path of the manifest.
    pub path: PathBuf,
    /// The run as it is listed: `student`, `teachers/teacher0`, `split`.
    pub name: String,
    pub manifest: Manifest,
}

/// Holds a run with what it measured.
pub struct Entry {
    pub run: Run,
    pub metrics: Metrics,
}

impl Entry {
    /// Reads the metrics of a run; gives damaged ones to `warn` and leaves them out.
    pub fn new(run: Run, warn: impl FnOnce(&Error)) -> Self {
        let metrics = run.metrics().map_err(Error::from).inspect_err(warn);
        Self {
            metrics: metrics.unwrap_or_default().unwrap_or_default(),
            run,
        }
    }

    /// Returns true for a run of that stage.
    pub fn is(&self, stage: &str) -> bool {
        self.run.manifest.stage == stage
    }
}

impl Run {
    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// Fails for a manifest that is missing or damaged.
    pub fn open(path: &Path, name: String) -> Result<Self> {
        let manifest = manifest::existing(path)?
            .ok_or_else(|| Error::failed(format!("there is no manifest `{}`", path.display())))?;
        Ok(Self {
            path: path.to_path_buf(),
            name,
            manifest,
        })
    }

    /// Returns the folder of the manifest.
    pub fn folder(&self) -> &Path {
        self.path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    /// Returns true for a run that is finished.
    pub fn is_done(&self) -> bool {
        self.manifest.status == Status::Done
    }

    /// Returns the status as of today: a run that is recorded as `running` and has no process any
    /// more was killed.
    pub fn status(&self) -> String {
        let alive = || Lock::is_held(&lock_path(&self.path));
        match self.manifest.status {
            Status::Running if !alive() => "killed".into(),
            status => status.to_string(),
        }
    }

    /// Returns true for a run of `train_student`.
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

    /// Returns the path of the first output of a role, if there is one.
    pub fn output(&self, role: &str) -> Option<PathBuf> {
        Some(self.manifest.output(role)?.current_path(&self.path))
    }

    /// Returns the paths of all outputs of a role.
    pub fn outputs(&self, role: &str) -> impl Iterator<Item = PathBuf> {
        let outputs = self.manifest.outputs.iter();
        outputs
            .filter(move |record| record.role == role)
            .map(|record| record.current_path(&self.path))
    }

    /// Returns the path of a file that the run read, unless it is gone or another one is there now.
    pub fn unchanged(&self, input: &FileRecord) -> Option<PathBuf> {
        let path = input.current_path(&self.path);
        let found = hash::file(&path).ok()?;
        (found.1 == input.sha256).then_some(path)
    }

    /// Returns the paths of the teachers that the run was given, in order; `None` if some are gone
    /// or others are there now.
    pub fn teachers(&self) -> Option<Vec<PathBuf>> {
        let records = teachers(&self.manifest);
        records.map(|record| self.unchanged(record)).collect()
    }

    /// Returns its metrics; `None` for a stage that has no accuracy, a run that ended before it had
    /// any, or a file that is gone.
    ///
    /// # Errors
    /// Fails for a file that is damaged, or has changed since the run wrote it.
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
        manifest::check_output(&path, (&self.path, &self.manifest), record)?;
        Metrics::read(&self.manifest.stage, &path).map(Some)
    }

    /// Returns the record of its metrics file.
    fn metrics_record(&self) -> Option<&FileRecord> {
        self.manifest.output("metrics")
    }

    /// Returns the error about its metrics file if that is gone.
    pub fn lost_metrics(&self) -> Option<Error> {
        let file = self.shown(self.metrics_record()?);
        if file.exists() {
            return None;
        }
        let error = Error::failed(format!("the metrics of `{}` are missing", self.name))
            .note("file", file.display().to_string())
            .note("from", format!("manifest {}", self.path.display()));
        Some(error.hint(format!(
            "put the file back, or make it again with `{} overwrite=true`",
            self.manifest.stage
        )))
    }

    /// Returns the run's config.
    ///
    /// # Errors
    /// Fails for a config of another version of this program.
    pub fn config(&self) -> Result<Config> {
        serde_json::from_value(self.manifest.config.clone()).map_err(|error| {
            Error::failed(format!(
                "the config recorded in the manifest cannot be read: {error}"
            ))
            .note("file", self.path.display().to_string())
            .hint("it was written by another version of fed-distill")
            .caused_by(error)
            .into()
        })
    }

    /// Returns a value of the config by its dotted key.
    pub fn setting(&self, key: &str) -> &Value {
        json::at(&self.manifest.config, key)
    }

    /// Returns the card (classes, normalisation, …) of the weights that it read or wrote; `None` if
    /// they are gone or have none.
    ///
    /// # Errors
    /// Fails for a damaged file.
    pub fn card(&self) -> Result<Option<Card>> {
        let files = [
            self.output("weights"),
            self.output("initial"),
            self.output("dataset"),
        ];
        let teachers = teachers(&self.manifest).filter_map(|record| self.unchanged(record));
        for path in files
            .into_iter()
            .flatten()
            .filter(|path| path.exists())
            .chain(teachers)
        {
            if let Some(card) = card_of(&path)? {
                return Ok(Some(card));
            }
        }
        Ok(None)
    }

    /// Returns the time when it began, as `2026-11-22 04:39` in UTC.
    pub fn started(&self) -> String {
        self.manifest
            .started
            .replace('T', " ")
            .chars()
            .take(16)
            .collect()
    }

    /// Returns how long it took, if it has ended; time between an interruption and the process
    /// that resumed does not count.
    pub fn took(&self) -> Option<String> {
        self.manifest.worked().map(duration)
    }
}

/// Returns the records of the teachers that a run read, in order.
pub fn teachers(manifest: &Manifest) -> impl Iterator<Item = &FileRecord> {
    let inputs = manifest.inputs.iter();
    inputs.filter(|input| input.role.starts_with("teacher"))
}

/// Returns the card in the metadata of a safetensors file; `None` in a file of another program.
pub fn card_of(path: &Path) -> Result<Option<Card>> {
    let ours = path
        .extension()
        .is_some_and(|extension| extension == "safetensors");
    match ours {
        true => weights::card(&tensors::metadata(path)?)
            .map_err(|error| error.note("file", path.display().to_string()).into()),
        false => Ok(None),
    }
}
