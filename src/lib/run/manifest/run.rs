//! Records a run: begins its manifest with status `running`, collects inputs, facts and outputs,
//! and ends it as done, failed or interrupted.
//!
//! The file on disk is rewritten at every step, so that it is true even when the process is killed.

use super::{
    FileRecord, LIBTORCH_VERSION, Manifest, SCHEMA_VERSION, Status, Versions, paths, trace,
};
use crate::artifact::fault::folder_of;
use crate::artifact::{hash, json};
use crate::data::Dataset;
use crate::error::{Class, Error, Result};
use crate::words::counted;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Holds what is known when a run begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// Name of the stage's binary.
    pub stage: String,
    pub overrides: Vec<String>,
    /// The composed config.
    pub config: serde_json::Value,
    pub seeds: BTreeMap<String, u64>,
    pub device: String,
    pub threads: usize,
    /// The main output.
    pub result: PathBuf,
}

/// Tells what was at a run's place before it.
pub enum Earlier {
    Nothing,
    /// A run whose place this one takes.
    Replaced(Box<Manifest>),
    /// The run that this one resumes.
    Resumed {
        run: Box<Manifest>,
        /// When it last wrote something, for one that was killed.
        last: Option<Timestamp>,
    },
}

/// Records a run. Dropped without an end it stays `running` on disk, which readers take as
/// unfinished.
pub struct Run {
    path: PathBuf,
    manifest: Manifest,
    /// Bytes that it is known to write at least.
    least_bytes: u64,
    /// True once the manifest is on disk.
    begun: bool,
}

impl Run {
    /// Returns a run whose manifest will be at `manifest_path`. Inputs and facts can be recorded;
    /// nothing is on disk before [`Run::begin`], so that a stage whose inputs are refused leaves no
    /// trace.
    pub fn prepare(manifest_path: &Path, start: Start) -> Self {
        Self {
            path: manifest_path.to_path_buf(),
            least_bytes: 0,
            begun: false,
            manifest: Manifest {
                schema_version: SCHEMA_VERSION,
                stage: start.stage,
                status: Status::Running,
                argv: std::env::args_os()
                    .map(|argument| argument.to_string_lossy().into_owned())
                    .collect(),
                overrides: start.overrides,
                config: start.config,
                seeds: start.seeds,
                versions: Versions {
                    fed_distill: env!("CARGO_PKG_VERSION").to_string(),
                    libtorch: LIBTORCH_VERSION.to_string(),
                },
                device: start.device,
                threads: start.threads,
                earlier_threads: Vec::new(),
                started: now(),
                resumed: Vec::new(),
                earlier_seconds: None,
                ended: None,
                result: start.result.file_name().map(PathBuf::from),
                inputs: Vec::new(),
                outputs: Vec::new(),
                replaces: Vec::new(),
                facts: BTreeMap::new(),
                error: None,
            },
        }
    }

    /// Writes the manifest with status `running`, in place of what was there. A stage that resumes
    /// the run of `earlier` records all inputs, facts and outputs again, but keeps the time at
    /// which that run began. One that starts in its place removes its files at the end.
    ///
    /// # Errors
    /// Fails when the manifest cannot be written.
    pub fn begin(&mut self, earlier: Earlier) -> Result<()> {
        if let Earlier::Replaced(earlier) = earlier {
            self.manifest.replaces = earlier.replaces;
            self.manifest.replaces.extend(earlier.outputs);
        } else if let Earlier::Resumed { run: earlier, last } = earlier {
            let ended = earlier.ended.clone().or(last.map(|last| last.to_string()));
            let worked = ended.and_then(|ended| earlier.seconds_until(&ended));
            self.manifest.earlier_seconds = match earlier.resumed.is_empty() {
                true => worked,
                false => worked.zip(earlier.earlier_seconds).map(|(a, b)| a + b),
            };
            self.manifest.replaces = earlier.replaces;
            let now = std::mem::replace(&mut self.manifest.started, earlier.started);
            self.manifest.resumed = earlier.resumed;
            self.manifest.resumed.push(now);
            self.manifest.earlier_threads = earlier.earlier_threads;
            let (then, now) = (earlier.threads, self.manifest.threads);
            if then != now {
                tracing::warn!(
                    "the run began with {then} and resumes with {}: its bytes may differ from \
                     those of an uninterrupted run",
                    counted(now, "thread")
                );
                self.manifest.earlier_threads.push(then);
            }
        }
        self.begun = true;
        self.save()
    }

    /// Says that the run writes `bytes` at least, checkpoints included, so that a disk on which
    /// they do not fit is found before the work.
    pub fn needs_space(&mut self, bytes: u64) {
        self.least_bytes = bytes;
    }

    /// Returns the bytes that the run is known to write.
    pub fn least_bytes(&self) -> u64 {
        self.least_bytes
    }

    /// Returns what is recorded so far.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Records the file at `path` as read, after checking it against the manifest of the stage that
    /// wrote it, if there is one.
    ///
    /// # Errors
    /// Fails when the file cannot be read, or differs from what its own manifest records.
    pub fn input(&mut self, role: &str, path: &Path) -> Result<()> {
        let record = self.record(role, path)?;
        trace::check_against_producer(path, &record)?;
        put(&mut self.manifest.inputs, record);
        self.save()
    }

    /// Records something about the run under `key`, in place of what was there.
    ///
    /// # Errors
    /// Fails when a number in the value is not finite.
    pub fn fact(&mut self, key: &str, value: impl Serialize) -> Result<()> {
        let value = json::value(&value)
            .map_err(|error| error.note("while", format!("recording the fact `{key}`")))?;
        self.manifest.facts.insert(key.to_string(), value);
        self.save()
    }

    /// Records the dataset: its fingerprint, and the images that were left out, if any.
    ///
    /// # Errors
    /// Fails when the manifest cannot be written.
    pub fn dataset(&mut self, dataset: &Dataset) -> Result<()> {
        if !dataset.broken.is_empty() {
            self.fact("broken_images", &dataset.broken)?;
        }
        self.fact("dataset_fingerprint", &dataset.fingerprint)
    }

    /// Records the file at `path` as written. Call it after the file is whole.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn output(&mut self, role: &str, path: &Path) -> Result<()> {
        let record = self.record(role, path)?;
        put(&mut self.manifest.outputs, record);
        self.save()
    }

    /// Ends the run as done.
    ///
    /// # Errors
    /// Fails when the manifest cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.remove_replaced();
        self.end(Status::Done, None)
    }

    /// Ends the run as failed or interrupted, by the class of `error`, and keeps its text.
    ///
    /// # Errors
    /// Fails when the manifest cannot be written, say because the disk that failed the run is still
    /// full: report `error` all the same.
    pub fn end_with(self, error: &Error) -> Result<()> {
        let status = match error.class() {
            Class::Interrupted => Status::Interrupted,
            Class::Usage | Class::Failed => Status::Failed,
        };
        self.end(status, Some(error.to_string()))
    }

    fn end(mut self, status: Status, error: Option<String>) -> Result<()> {
        self.manifest.status = status;
        self.manifest.ended = Some(now());
        self.manifest.error = error;
        self.save()
    }

    /// Removes the files of the run that this one replaced and that it did not write anew; those
    /// that somebody changed since stay.
    fn remove_replaced(&mut self) {
        let folder = folder_of(&self.path);
        for record in std::mem::take(&mut self.manifest.replaces) {
            let is_ours = |output: &FileRecord| output.path == record.path;
            let is_inside = record.path.components().all(is_name);
            if !is_inside || self.manifest.outputs.iter().any(is_ours) {
                continue;
            }
            let path = record.current_path(&self.path);
            if hash::file(&path).is_ok_and(|(_, sha256)| sha256 == record.sha256) {
                let shown = path.display();
                // What cannot be removed is no fault of this run's result.
                match std::fs::remove_file(&path) {
                    Ok(()) => tracing::info!("removed what the replaced run wrote: {shown}"),
                    Err(error) => tracing::warn!("the replaced run's {shown} stays: {error}"),
                }
                let above = path.parent().filter(|above| *above != folder);
                // Only an empty folder goes.
                let _ = above.map(std::fs::remove_dir);
            }
        }
    }

    fn record(&self, role: &str, path: &Path) -> Result<FileRecord> {
        let (bytes, sha256) = hash::file(path)?;
        Ok(FileRecord {
            role: role.to_string(),
            path: paths::to_record(&self.path, path)?,
            bytes,
            sha256,
        })
    }

    fn save(&self) -> Result<()> {
        if !self.begun {
            return Ok(());
        }
        json::write(&self.path, &self.manifest)
    }
}

/// Returns true for a part of a path that stays below its folder.
fn is_name(part: Component) -> bool {
    matches!(part, Component::Normal(_))
}

/// Adds `record`, in place of an earlier one of the same role and path.
fn put(records: &mut Vec<FileRecord>, record: FileRecord) {
    match records
        .iter_mut()
        .find(|other| other.role == record.role && other.path == record.path)
    {
        Some(earlier) => *earlier = record,
        None => records.push(record),
    }
}

/// Returns the time in UTC with microseconds, so that runs of one second can be told apart.
fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}
