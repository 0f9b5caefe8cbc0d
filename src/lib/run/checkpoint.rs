//! Writes and reads checkpoints: what an unfinished run would lose if its process died. They are
//! safetensors files in a folder of one run, and are removed when the run is done.
//!
//! Each file names the run it belongs to (config and inputs, with hashes) and the hash of its own
//! content, so that a run never resumes from the state of another or from a damaged one.

use super::manifest::paths;
use super::stages::{self, without_paths};
use crate::artifact::fault::explain;
use crate::artifact::{atomic, json, tensors};
use crate::error::{Error, Result};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Names the metadata that holds the [`Header`].
const KEY: &str = "fed_distill_checkpoint";

/// Version of the format.
const SCHEMA_VERSION: u32 = 1;

/// Identifies the run that a checkpoint belongs to. Two runs with one identity make the same files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub stage: String,
    /// The version of this program.
    pub version: String,
    /// The part of the config that the result depends on.
    pub config: Value,
    /// What was read, by role: path and SHA-256.
    pub inputs: BTreeMap<String, (PathBuf, String)>,
    /// The dataset's fingerprint and the like.
    pub facts: BTreeMap<String, Value>,
}

impl Identity {
    /// Returns the config with the keys that were not there yet when the run began.
    fn whole_config(&self) -> Value {
        match stages::named(&self.stage) {
            Some(stage) => without_paths(stage.identity(&self.config)),
            None => self.config.clone(),
        }
    }
}

/// Holds the metadata of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    schema_version: u32,
    /// The file's name without its ending, so that two files of a run cannot be exchanged.
    name: String,
    identity: Identity,
    state: Value,
    /// The hash of the state and the tensors.
    sha256: String,
}

/// Holds the content of a file.
#[derive(Debug)]
pub struct Saved<T> {
    pub state: T,
    /// The tensors by name, on the CPU.
    pub tensors: Vec<(String, Tensor)>,
}

/// Reads and writes the folder of one run's checkpoints.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    identity: Identity,
    /// What to do about a checkpoint that cannot be used.
    remedy: &'static str,
}

/// Returns true if `folder` holds checkpoints of any run.
pub fn any_in(folder: &Path) -> bool {
    files_in(folder).any(|path| is_ours(&path))
}

/// Returns the bytes of the checkpoints in a folder.
pub fn bytes(folder: &Path) -> u64 {
    let ours = files_in(folder).filter(|path| is_ours(path));
    ours.filter_map(|path| Some(path.metadata().ok()?.len()))
        .sum()
}

/// Returns when the last of the checkpoints in a folder was written.
pub fn last_written(folder: &Path) -> Option<Timestamp> {
    let written = |path: PathBuf| path.metadata().ok()?.modified().ok();
    let last = files_in(folder).filter_map(written).max()?;
    Timestamp::try_from(last).ok()
}

/// Removes the checkpoints in a folder, and the folder unless it holds something else: a user may
/// have put files of the same folder's name there.
///
/// # Errors
/// Fails without permission to do so.
pub fn remove(folder: &Path) -> Result<()> {
    atomic::remove_stale(folder);
    for path in files_in(folder).filter(|path| is_ours(path)) {
        std::fs::remove_file(&path).map_err(|error| explain("remove", &path, error))?;
    }
    let tolerated = [
        ErrorKind::NotFound,
        ErrorKind::NotADirectory,
        ErrorKind::DirectoryNotEmpty,
    ];
    match std::fs::remove_dir(folder) {
        Err(error) if !tolerated.contains(&error.kind()) => Err(explain("remove", folder, error)),
        _ => Ok(()),
    }
}

fn files_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Returns true for a file that this program wrote as a checkpoint: one that says so at its
/// beginning or, where that is damaged, has the name of one and is no other safetensors file.
fn is_ours(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if path.extension().is_none_or(|end| end != "safetensors") || !path.is_file() {
        return false;
    }
    // The metadata stand before the tensors, behind the header's length in eight bytes.
    let mut head = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(64).read_to_end(&mut head);
    }
    let says_so = String::from_utf8_lossy(&head).contains(&format!("\"{KEY}\""));
    let numbered = |prefix| stem.strip_prefix(prefix).is_some_and(is_number);
    let named = stem == "training" || numbered("batch_") || numbered("state_");
    says_so || named && head.get(8) != Some(&b'{')
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Checkpoints {
    /// Returns the checkpoints of the run `identity` in `folder`, which the first one creates.
    pub fn new(folder: PathBuf, identity: Identity) -> Self {
        Self {
            folder,
            identity,
            remedy: "`overwrite=true` starts the run again, without what was saved of it",
        }
    }

    /// Changes what is told to do about a checkpoint that cannot be used.
    #[must_use]
    pub fn with_remedy(self, remedy: &'static str) -> Self {
        Self { remedy, ..self }
    }

    /// Writes `NAME.safetensors`, in place of what was there. When this returns, the file survives
    /// the process and the machine.
    ///
    /// # Errors
    /// Fails when a number in `state` is not finite, and when the file cannot be written.
    pub fn write(
        &self,
        name: &str,
        state: &impl Serialize,
        tensors: &[(&str, &Tensor)],
    ) -> Result<()> {
        let path = self.path(name);
        let state =
            json::value(state).map_err(|error| error.note("file", path.display().to_string()))?;
        let header = Header {
            schema_version: SCHEMA_VERSION,
            name: name.to_owned(),
            identity: self.identity.clone(),
            sha256: hash(&state, tensors)?,
            state,
        };
        let text = serde_json::to_string(&header).map_err(|error| {
            Error::failed(format!("cannot record the checkpoint: {error}")).caused_by(error)
        })?;
        tensors::write(&path, tensors, &BTreeMap::from([(KEY.to_owned(), text)]))
    }

    /// Reads `NAME.safetensors`; `None` when there is no such file.
    ///
    /// # Errors
    /// Fails when the file is damaged, of a newer format, or of another run.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<Saved<T>>> {
        let path = self.path(name);
        if !path.exists() {
            return Ok(None);
        }
        self.read_at(&path, name).map(Some).map_err(|error| {
            error
                .note("file", path.display().to_string())
                .hint(self.remedy)
        })
    }

    fn read_at<T: DeserializeOwned>(&self, path: &Path, name: &str) -> Result<Saved<T>> {
        #[derive(Deserialize)]
        struct Format {
            schema_version: u32,
        }
        let damaged = |what: &str, error: serde_json::Error| {
            Error::failed(format!(
                "the checkpoint is damaged: its {what} cannot be read"
            ))
            .note("found", error.to_string())
            .caused_by(error)
        };
        let file = tensors::read(path)?;
        let text = file.metadata.get(KEY).ok_or_else(|| {
            Error::failed("this is no checkpoint: the file does not say which run it belongs to")
        })?;
        let format: Format =
            serde_json::from_str(text).map_err(|error| damaged("format", error))?;
        if format.schema_version > SCHEMA_VERSION {
            return Err(Error::failed(
                "the checkpoint is of a newer format than this program knows",
            )
            .note("expected", format!("at most {SCHEMA_VERSION}"))
            .note("found", format.schema_version.to_string()));
        }
        let header: Header =
            serde_json::from_str(text).map_err(|error| damaged("header", error))?;
        let named: Vec<(&str, &Tensor)> = file
            .tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let found = hash(&header.state, &named)?;
        if found != header.sha256 {
            return Err(Error::failed("the checkpoint is not what was written")
                .note("expected", format!("sha256 {}", header.sha256))
                .note("found", format!("sha256 {found}")));
        }
        self.refuse_other_run(&header.identity)?;
        if header.name != name {
            return Err(Error::failed(
                "the checkpoint is not the one that was written under its name",
            )
            .note("expected", name.to_owned())
            .note("found", header.name));
        }
        Ok(Saved {
            state: serde_json::from_value(header.state).map_err(|error| damaged("state", error))?,
            tensors: file.tensors,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.safetensors"))
    }

    /// Refuses the checkpoint of another run, and names what differs.
    fn refuse_other_run(&self, then: &Identity) -> Result<()> {
        let now = &self.identity;
        let mut differences = Vec::new();
        let roles: BTreeSet<&String> = then.inputs.keys().chain(now.inputs.keys()).collect();
        for role in roles {
            let (before, after) = (then.inputs.get(role), now.inputs.get(role));
            let sha256 = |record: Option<&(PathBuf, String)>| {
                record.map_or("none".into(), |record| record.1.clone())
            };
            if sha256(before) != sha256(after) {
                let recorded = after.or(before).map_or(Path::new(""), |record| &record.0);
                // As the manifest beside this folder has it.
                let path = paths::from_record(&self.folder, recorded);
                differences.push(format!(
                    "{role}, {}: sha256 {} then, {} now",
                    path.display(),
                    sha256(before),
                    sha256(after)
                ));
            }
        }
        let keys: BTreeSet<&String> = then.facts.keys().chain(now.facts.keys()).collect();
        for key in keys {
            let of =
                |identity: &Identity| identity.facts.get(key).unwrap_or(&Value::Null).to_string();
            if of(then) != of(now) {
                differences.push(format!("{key}: {} then, {} now", of(then), of(now)));
            }
        }
        if then.version != now.version {
            differences.push(format!(
                "fed-distill {} then, {} now",
                then.version, now.version
            ));
        }
        if then.stage != now.stage || then.whole_config() != now.whole_config() {
            differences.push("the config".into());
        }
        if differences.is_empty() {
            return Ok(());
        }
        let error = Error::failed(format!(
            "the checkpoint belongs to another run of `{}`",
            then.stage
        ))
        .of_resume();
        Err(differences
            .into_iter()
            .fold(error, |error, line| error.note("differs", line)))
    }
}

fn hash(state: &Value, tensors: &[(&str, &Tensor)]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(state.to_string());
    let mut sorted = tensors.to_vec();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, tensor) in sorted {
        hash.update(format!(
            "\n{name} {:?} {:?}\n",
            tensor.kind(),
            tensor.size()
        ));
        hash.update(tensors::bytes(tensor)?);
    }
    Ok(format!("{:x}", hash.finalize()))
}
