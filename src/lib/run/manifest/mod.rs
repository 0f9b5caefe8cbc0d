//! Reads and writes the manifest that a stage leaves beside its results: how they were made, from
//! which files, and which files with which hashes came out.
//!
//! For a folder it is `FOLDER/manifest.json`, for a single file `STEM.manifest.json` beside it
//! ([`beside`]), for one of several independent outputs of a folder `manifest_NAME.json`. Stages
//! open a [`Run`], after asking [`admit`]; readers use [`existing`], [`verify`], [`made`] and
//! [`producer_of`].

mod admit;
pub(crate) mod paths;
mod run;
mod trace;

pub use admit::{Admission, admit};
pub use run::{Earlier, Run, Start};
pub use trace::{Check, Finding, Problem, check, check_output, made, made_as, producer_of, verify};

use crate::artifact::json;
use crate::config::schema::recorded;
use crate::data::DatasetSettings;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names the fact that holds the teachers' architectures.
pub const TEACHERS_MODEL: &str = "teachers_model";

/// Version of the manifest's own format.
pub const SCHEMA_VERSION: u32 = 1;

/// Version of the libtorch that this build links; tch 0.24.0 binds 2.11.0.
pub const LIBTORCH_VERSION: &str = match option_env!("FED_DISTILL_LIBTORCH_VERSION") {
    Some(version) => version,
    None => "2.11.0",
};

/// Tells how far a run came. A run that was killed stays `running`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Running,
    Done,
    Failed,
    Interrupted,
}

/// Writes the name that serde writes.
impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(out)
    }
}

/// Tells which program made the files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    pub fed_distill: String,
    pub libtorch: String,
}

/// Describes a file that was read or written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Tells what the file is to the stage: `teacher`, `split`, `images`, …
    pub role: String,
    /// The path, relative to the manifest's folder or absolute.
    pub path: PathBuf,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

impl FileRecord {
    /// Returns the file's current path, given that of the manifest that records it.
    pub fn current_path(&self, manifest_path: &Path) -> PathBuf {
        paths::from_record(manifest_path, &self.path)
    }
}

/// Holds the whole manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema_version: u32,
    /// Name of the stage's binary.
    pub stage: String,
    pub status: Status,
    /// The command line, program first.
    pub argv: Vec<String>,
    /// The overrides on the command line.
    pub overrides: Vec<String>,
    /// The composed config.
    pub config: serde_json::Value,
    /// Seeds by purpose.
    pub seeds: BTreeMap<String, u64>,
    pub versions: Versions,
    pub device: String,
    pub threads: usize,
    /// Other numbers of threads with which earlier processes worked on the run: a result then has
    /// other bytes than that of one process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_threads: Vec<usize>,
    /// Start, in UTC (RFC 3339) with microseconds; older manifests have whole seconds.
    pub started: String,
    /// Further starts with `resume=true` of the run, in UTC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<String>,
    /// Seconds that earlier processes worked on the run, each up to its end or, if it was killed,
    /// its last checkpoint; manifests of earlier versions do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier_seconds: Option<f64>,
    /// End, in UTC; none while running.
    pub ended: Option<String>,
    /// Names the main output, which lies beside the manifest: until it is among `outputs`, a file
    /// of that name is an earlier run's.
    #[serde(default)]
    pub result: Option<PathBuf>,
    pub inputs: Vec<FileRecord>,
    pub outputs: Vec<FileRecord>,
    /// Files of an earlier run in whose place this one started: it removes at its end those that
    /// it did not write itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<FileRecord>,
    /// Holds what later stages check or users look up: the dataset's fingerprint, the number of
    /// nodes, …
    pub facts: BTreeMap<String, serde_json::Value>,
    /// Tells why the run ended, unless it is done.
    pub error: Option<String>,
}

impl Manifest {
    /// Returns the file that was read in a role.
    pub fn input(&self, role: &str) -> Option<&FileRecord> {
        self.inputs.iter().find(|record| record.role == role)
    }

    /// Returns the first file that was written in a role.
    pub fn output(&self, role: &str) -> Option<&FileRecord> {
        self.outputs.iter().find(|record| record.role == role)
    }

    /// Returns how long the run was worked on, without the time between an interruption and the
    /// process that resumed; `None` while it has no end.
    pub fn worked(&self) -> Option<Duration> {
        let seconds = match self.earlier_seconds {
            Some(earlier) => earlier + self.seconds_until(self.ended.as_deref()?)?,
            None => between(&self.started, self.ended.as_deref()?)?,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Returns the seconds from the start of the last process to `end`.
    fn seconds_until(&self, end: &str) -> Option<f64> {
        between(self.resumed.last().unwrap_or(&self.started), end)
    }

    /// Returns the fingerprint of the dataset, if it is recorded.
    pub fn fingerprint(&self) -> Option<&str> {
        self.facts.get("dataset_fingerprint")?.as_str()
    }

    /// Adds to the error for another dataset than the run's which of the settings `now` make it
    /// another, with what to type for the run's; nothing where its files are others.
    pub fn name_dataset(&self, error: Error, now: &DatasetSettings) -> Error {
        /// Keys on which the pixels and labels do not depend, or only by what lies there.
        const OTHERS: [&str; 4] = ["root", "download", "mean", "std"];
        let then = recorded(&self.config);
        let (Some(then), Ok(Value::Object(now))) =
            (then["dataset"].as_object(), serde_json::to_value(now))
        else {
            return error;
        };
        let value = |key: &str| then.get(key).unwrap_or(&Value::Null);
        let differ: Vec<_> = now
            .iter()
            .filter(|(key, now)| !OTHERS.contains(&key.as_str()) && value(key) != *now)
            .collect();
        if differ.is_empty() {
            return error;
        }
        let typed = |key: &str| {
            let value = value(key).to_string();
            format!("dataset.{key}={}", value.trim_matches('"'))
        };
        let all: Vec<String> = differ.iter().map(|(key, _)| typed(key)).collect();
        let error = differ.iter().fold(error, |error, (key, now)| {
            error.note(
                "differs",
                format!("dataset.{key}: {} then, {now} now", value(key)),
            )
        });
        error.hint(format!("as it was then: `{}`", all.join(" ")))
    }
}

/// Returns the seconds between two times of a manifest, 0 where the clock was set back.
fn between(start: &str, end: &str) -> Option<f64> {
    let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let seconds = at(end)?.duration_since(at(start)?).as_secs_f64();
    Some(seconds.max(0.0))
}

/// Returns a line for each input that two runs of a stage read differently, by its hash, and for
/// each fact of `now` that was another then. `named` says what the line calls each run:
/// `["then", "now"]`.
pub fn input_differences(then: &Manifest, now: &Manifest, named: [&str; 2]) -> Vec<String> {
    let [one, other] = named;
    let roles: BTreeSet<&str> = [then, now]
        .iter()
        .flat_map(|manifest| &manifest.inputs)
        .map(|record| record.role.as_str())
        .collect();
    let sha256 = |manifest: &Manifest, role| {
        let record = manifest.input(role);
        record.map_or("none".to_owned(), |record| record.sha256.clone())
    };
    let of_inputs = roles.into_iter().filter_map(|role| {
        let (then, now) = (sha256(then, role), sha256(now, role));
        (then != now).then(|| format!("{role}: sha256 {then} {one}, {now} {other}"))
    });
    let of_facts = now.facts.iter().filter_map(|(key, value)| {
        let then = then.facts.get(key).unwrap_or(&serde_json::Value::Null);
        (then != value).then(|| format!("{key}: {then} {one}, {value} {other}"))
    });
    of_inputs.chain(of_facts).collect()
}

/// Reads the manifest at `manifest_path`; `None` when there is no file.
///
/// # Errors
/// Fails when the file cannot be read, is no manifest, or was written in a newer format.
pub fn existing(manifest_path: &Path) -> Result<Option<Manifest>> {
    if !manifest_path.exists() {
        return Ok(None);
    }
    let damaged = |error: Error| {
        error
            .note("while", "reading the manifest of an earlier run")
            .hint("`overwrite=true` replaces the earlier run; or restore the file")
    };
    match newer(manifest_path).map_err(damaged)? {
        Some(version) => Err(Error::failed(format!(
            "the manifest `{}` is of a newer format than this program knows",
            manifest_path.display()
        ))
        .note("found", format!("schema_version {version}"))
        .note("expected", format!("at most {SCHEMA_VERSION}"))
        .hint("use the fed-distill that wrote it, or a newer one")),
        None => json::read(manifest_path).map(Some).map_err(damaged),
    }
}

/// Returns the version of the manifest there, if it is one that this program does not know.
fn newer(manifest_path: &Path) -> Result<Option<u32>> {
    #[derive(Deserialize)]
    struct Format {
        schema_version: u32,
    }
    let format: Format = json::read(manifest_path)?;
    Ok(Some(format.schema_version).filter(|version| *version > SCHEMA_VERSION))
}

/// Returns the path of the manifest of the single file `output`: `initial.safetensors` has
/// `initial.manifest.json` beside it.
pub fn beside(output: &Path) -> PathBuf {
    output.with_extension("manifest.json")
}
