//! Follows files through manifests: which run wrote a file, and whether files still are what a
//! manifest says.

use super::{FileRecord, Manifest, Status, beside, existing, newer, paths};
use crate::artifact::fault::folder_of;
use crate::artifact::hash;
use crate::error::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// Reports a recorded file that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub role: String,
    /// Where the file should be.
    pub path: PathBuf,
    pub problem: Problem,
}

/// Tells what is wrong with a recorded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    Missing,
    /// SHA-256 then and now.
    Changed {
        recorded: String,
        found: String,
    },
    /// Why it cannot be read.
    Unreadable(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            Problem::Missing => write!(out, "`{path}` ({}) is missing", self.role),
            Problem::Changed { recorded, found } => write!(
                out,
                "`{path}` ({}) has changed since it was written (sha256 {recorded} then, {found} \
                 now)",
                self.role
            ),
            Problem::Unreadable(why) => write!(out, "{why} ({})", self.role),
        }
    }
}

/// Reports the state of the files that a manifest records.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Files that are there and were hashed again.
    pub hashed: usize,
    /// Inputs that are gone and cannot be checked. What was made from them stays valid.
    pub gone: Vec<Finding>,
    /// Files that are missing, have changed or cannot be read; empty if all is well.
    pub findings: Vec<Finding>,
}

/// Compares the inputs and outputs recorded in the manifest at `manifest_path` with the files that
/// are there.
///
/// # Errors
/// Fails when there is no manifest or a damaged one.
pub fn check(manifest_path: &Path) -> Result<Check> {
    let manifest = existing(manifest_path)?.ok_or_else(|| {
        Error::failed(format!(
            "there is no manifest `{}`",
            manifest_path.display()
        ))
    })?;
    let recorded = manifest.inputs.len() + manifest.outputs.len();
    let is_gone = |finding: &Finding| finding.problem == Problem::Missing;
    let inputs = compare(manifest_path, manifest.inputs).into_iter();
    let (gone, mut findings): (Vec<_>, Vec<_>) = inputs.partition(is_gone);
    findings.extend(compare(manifest_path, manifest.outputs));
    let is_hashed = |finding: &&Finding| matches!(finding.problem, Problem::Changed { .. });
    let unhashed = findings.len() - findings.iter().filter(is_hashed).count();
    Ok(Check {
        hashed: recorded - gone.len() - unhashed,
        gone,
        findings,
    })
}

/// Returns the findings of [`check`].
///
/// # Errors
/// Fails as [`check`] does.
pub fn verify(manifest_path: &Path) -> Result<Vec<Finding>> {
    Ok(check(manifest_path)?.findings)
}

fn compare(manifest_path: &Path, records: Vec<FileRecord>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for record in records {
        let path = paths::from_record(manifest_path, &record.path);
        let problem = match path.try_exists() {
            Ok(false) => Problem::Missing,
            _ => match hash::file(&path) {
                Ok((_, found)) if found == record.sha256 => continue,
                Ok((_, found)) => Problem::Changed {
                    recorded: record.sha256,
                    found,
                },
                Err(error) => Problem::Unreadable(error.what()),
            },
        };
        findings.push(Finding {
            role: record.role,
            path,
            problem,
        });
    }
    findings
}

/// Returns the manifest beside `path` that lists it as an output.
pub fn producer_of(path: &Path) -> Option<PathBuf> {
    made(path).map(|(manifest_path, _)| manifest_path)
}

/// Returns the path and content of that manifest, which tells how the file at `path` was made.
/// Damaged manifests are skipped.
pub fn made(path: &Path) -> Option<(PathBuf, Manifest)> {
    producer(path).map(|(manifest_path, manifest, _)| (manifest_path, manifest))
}

/// Refuses the file at `path`, the output `then` of the run with this manifest and its path, if it
/// is no longer what was recorded.
///
/// # Errors
/// Fails when the file has changed, or cannot be read.
pub fn check_output(
    path: &Path,
    (manifest_path, manifest): (&Path, &Manifest),
    then: &FileRecord,
) -> Result<()> {
    let now = hash::file(path)?;
    if now.1 == then.sha256 {
        return Ok(());
    }
    Err(changed(path, (manifest_path, manifest), then, &now).hint(format!(
        "put the file back, or make it again with `{} overwrite=true`; `inspect verify` finds all \
         that have changed",
        manifest.stage
    )))
}

/// Returns the manifest of the run that wrote the file at `path` when it had this hash, whatever
/// lies there now; `None` where a later run has replaced that manifest.
pub fn made_as(path: &Path, sha256: &str) -> Option<(PathBuf, Manifest)> {
    let is_it = |record: &FileRecord| {
        record.sha256 == sha256 && record.path.file_name() == path.file_name()
    };
    candidates(path).into_iter().find_map(|manifest_path| {
        let manifest = existing(&manifest_path).ok().flatten()?;
        manifest
            .outputs
            .iter()
            .any(is_it)
            .then_some((manifest_path, manifest))
    })
}

/// Refuses an input that is not what the run that wrote it recorded.
pub(super) fn check_against_producer(path: &Path, now: &FileRecord) -> Result<()> {
    let Some((manifest_path, manifest, then)) = producer(path) else {
        return refuse_outdated(path);
    };
    if then.sha256 != now.sha256 {
        let now = (now.bytes, now.sha256.clone());
        return Err(
            changed(path, (&manifest_path, &manifest), &then, &now).hint(format!(
                "make it again with `{} overwrite=true`; if it was changed on purpose, remove that \
             manifest",
                manifest.stage
            )),
        );
    }
    if manifest.status != Status::Done {
        tracing::warn!(
            "`{}` comes from a `{}` that is not finished (status {})",
            path.display(),
            manifest.stage,
            manifest.status
        );
    }
    Ok(())
}

/// Reports a file that is not what a manifest recorded; `now` is its length and SHA-256.
fn changed(
    path: &Path,
    (manifest_path, manifest): (&Path, &Manifest),
    then: &FileRecord,
    now: &(u64, String),
) -> Error {
    Error::failed(format!(
        "`{}` is not the file that `{}` wrote",
        path.display(),
        manifest.stage
    ))
    .note("file", path.display().to_string())
    .note(
        "expected",
        format!("{} bytes, sha256 {}", then.bytes, then.sha256),
    )
    .note("found", format!("{} bytes, sha256 {}", now.0, now.1))
    .note("from", format!("manifest {}", manifest_path.display()))
}

/// Refuses the result of an earlier run that a later one began to replace and did not get to.
fn refuse_outdated(path: &Path) -> Result<()> {
    for manifest_path in candidates(path) {
        let manifest = match existing(&manifest_path) {
            Ok(Some(manifest)) => manifest,
            // The manifest of another file is passed over.
            Err(error) if !is_of_another(&manifest_path, path) => {
                return Err(unreadable(path, &manifest_path, error));
            }
            _ => continue,
        };
        if manifest.status != Status::Done
            && manifest.result.as_deref().map(Path::as_os_str) == path.file_name()
        {
            return Err(Error::failed(format!(
                "`{}` is of an earlier run: the `{}` that is to replace it is not done (status {})",
                path.display(),
                manifest.stage,
                manifest.status
            ))
            .note("file", path.display().to_string())
            .note("from", format!("manifest {}", manifest_path.display()))
            .hint(format!("finish it with `{} resume=true`", manifest.stage)));
        }
    }
    Ok(())
}

/// Reports a damaged manifest, without which `path` cannot be checked.
fn unreadable(path: &Path, manifest_path: &Path, error: Error) -> Error {
    if matches!(newer(manifest_path), Ok(Some(_))) {
        return error.note(
            "while",
            format!("looking up what wrote `{}`", path.display()),
        );
    }
    let why = error.to_string();
    Error::failed(format!(
        "`{}` cannot be checked: its manifest is damaged",
        path.display()
    ))
    .note("file", manifest_path.display().to_string())
    .note("found", why.lines().next().unwrap_or_default().to_owned())
    .hint(
        "make the file again with the stage that wrote it and `overwrite=true`; to use it \
        unchecked, remove that manifest",
    )
}

/// Returns the manifest that lists `path` as an output: its path, its content, and the record in
/// it.
fn producer(path: &Path) -> Option<(PathBuf, Manifest, FileRecord)> {
    candidates(path).into_iter().find_map(|manifest_path| {
        // A damaged one is passed over.
        let manifest = existing(&manifest_path).ok().flatten()?;
        let lists = |record: &&FileRecord| {
            paths::same(&paths::from_record(&manifest_path, &record.path), path)
        };
        let record = manifest.outputs.iter().find(lists)?.clone();
        Some((manifest_path, manifest, record))
    })
}

/// Returns the manifests that may list `path`, the likeliest first: a folder may hold one for each
/// of very many teachers.
fn candidates(path: &Path) -> Vec<PathBuf> {
    let folder = folder_of(path);
    let mut several: Vec<(bool, PathBuf)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|manifest_path| one_of_several(manifest_path).is_some())
        .map(|manifest_path| (is_of_another(&manifest_path, path), manifest_path))
        .collect();
    several.sort();
    let single = [beside(path), folder.join("manifest.json")];
    single
        .into_iter()
        .filter(|manifest_path| manifest_path.is_file())
        .chain(several.into_iter().map(|(_, manifest_path)| manifest_path))
        .collect()
}

/// Returns `NAME` of a path that ends in `manifest_NAME.json`.
fn one_of_several(manifest_path: &Path) -> Option<String> {
    let name = manifest_path.file_name()?.to_string_lossy();
    Some(
        name.strip_prefix("manifest_")?
            .strip_suffix(".json")?
            .to_owned(),
    )
}

/// Returns true if a manifest is named after another file of its folder than `path`.
fn is_of_another(manifest_path: &Path, path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    one_of_several(manifest_path).is_some_and(|name| !stem.ends_with(&name))
}
