//! Checks the paths of a run before it starts: what is there that the run would replace without
//! having made it, and what keeps the run from writing.

use super::job::{Job, companion};
use super::stages::Stage;
use crate::artifact::fault::{explain, folder_of};
use crate::error::{Error, Result, advice};
use crate::report::EVENTS;
use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Limits the files that an error names.
const SHOWN: usize = 20;

/// Refuses a result that is to be a file and whose path is that of a folder, or that another file
/// of the run would replace.
///
/// # Errors
/// Fails with the refusals above (usage).
pub fn refuse_unfit_name(job: &Job) -> Result<()> {
    let (key, path) = (job.stage.output, &job.output);
    let Some(example) = example(job.stage) else {
        return Ok(());
    };
    let shown = path.display().to_string();
    if shown.ends_with('/') || path.file_name().is_none() || path.is_dir() {
        let inside = path.join(example);
        return Err(Error::usage(format!(
            "`{key}` is `{shown}`, a folder; it must name a file"
        ))
        .hint(format!("type {key}={}", inside.display())));
    }
    let mut others = files(job);
    others.extend([job.manifest.clone(), job.log.clone()]);
    if others.contains(path) {
        return Err(Error::usage(format!(
            "`{key}` is `{shown}`, the name of another file that `{}` writes",
            job.stage.name
        ))
        .hint(format!(
            "type {key}={}",
            path.with_file_name(example).display()
        )));
    }
    Ok(())
}

/// Returns the usual name of the result of a stage that writes a single file.
fn example(stage: &Stage) -> Option<&'static str> {
    match stage.output {
        "split.save_path" => Some("split.json"),
        "initial.save_path" => Some("initial.safetensors"),
        _ => None,
    }
}

/// Refuses a run without a manifest where there are files of the names that it writes: they are not
/// its own.
///
/// # Errors
/// Fails when there are such files (usage).
pub fn refuse_unclaimed(job: &Job) -> Result<()> {
    let mut found: Vec<PathBuf> = files(job)
        .into_iter()
        .flat_map(|path| there(&path))
        .collect();
    let record = companion(&job.manifest, ".hydra");
    found.extend(["config.yaml", "overrides.yaml"].map(|name| record.join(name)));
    found.retain(|path| path.symlink_metadata().is_ok());
    let checkpoints = companion(&job.manifest, "checkpoint");
    if holds(&checkpoints, "") {
        found.push(checkpoints);
    }
    let events = companion(&job.manifest, "tensorboard");
    if holds(&events, EVENTS) {
        found.push(events);
    }
    let Some((first, others)) = found.split_first() else {
        return Ok(());
    };
    let error = Error::usage(format!(
        "`{}` is there already, and no manifest says where it comes from",
        first.display()
    ));
    let also = others.iter().take(SHOWN);
    let error = also.fold(error, |error, path| {
        error.note("also", path.display().to_string())
    });
    let error = match others.len().saturating_sub(SHOWN) {
        0 => error,
        more => error.note("also", format!("{more} more")),
    };
    Err(error.hint(format!(
        "`{}` writes another path; `overwrite=true` replaces what has the names of its files",
        job.stage.output
    )))
}

/// Returns true if `folder` holds something whose name begins so, or is no folder.
fn holds(folder: &Path, beginning: &str) -> bool {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(beginning)),
        Err(_) => folder.symlink_metadata().is_ok(),
    }
}

/// Returns the paths of the files that a run may write beside its main result and its manifest;
/// `{i}` in a name stands for a number.
fn files(job: &Job) -> Vec<PathBuf> {
    let names = job.stage.files.iter();
    names.map(|name| companion(&job.manifest, name)).collect()
}

/// Returns what there is at a path, with any number for `{i}`.
fn there(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((before, behind)) = name.split_once("{i}") else {
        return vec![path.to_path_buf()];
    };
    let is_numbered = |name: &str| {
        let number = name
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(behind));
        number.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(folder_of(path))
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| is_numbered(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Refuses a place where the run could not write, before it does any work.
///
/// # Errors
/// Fails without permission, on a read-only file system, where a file stands in place of a folder
/// or a folder in place of a file.
pub fn check(job: &Job) -> Result<()> {
    let folder = folder_of(&job.output);
    let base = existing(folder);
    if !base.is_dir() {
        let error = io::Error::from(ErrorKind::NotADirectory);
        return Err(explain("write", &job.output, error));
    }
    let of_run = ["checkpoint", "tensorboard", ".hydra"].map(|name| companion(&job.manifest, name));
    for inside in &of_run {
        if inside.exists() && !inside.is_dir() {
            let error = io::Error::from(ErrorKind::NotADirectory);
            return Err(explain("write", &inside.join("…"), error));
        }
    }
    let inside = of_run.iter().filter(|folder| folder.is_dir());
    for folder in inside.map(PathBuf::as_path).chain([base]) {
        accessible(folder).map_err(|error| {
            explain(
                "write",
                if folder == base { &job.output } else { folder },
                error,
            )
        })?;
    }
    let mut all: Vec<PathBuf> = files(job)
        .into_iter()
        .flat_map(|path| there(&path))
        .collect();
    all.extend([job.output.clone(), job.manifest.clone(), job.log.clone()]);
    match all.into_iter().find(|path| path.is_dir()) {
        None => Ok(()),
        Some(path) => {
            let text = format!("cannot write `{}`: it is a folder", path.display());
            Err(Error::failed(text).hint("move it away, or choose another place"))
        }
    }
}

/// Refuses a run whose results will not fit on the file system of `path`.
///
/// # Errors
/// Fails when fewer than `bytes` are free.
pub fn require_space(path: &Path, bytes: u64) -> Result<()> {
    match free_space(existing(folder_of(path))) {
        Some(free) if free < bytes => Err(Error::failed(format!(
            "cannot write `{}`: No space left: the run writes {bytes} bytes or more, and {free} \
             are free",
            path.display()
        ))
        .hint(advice(ErrorKind::StorageFull).unwrap_or_default())),
        _ => Ok(()),
    }
}

/// Returns the nearest folder at or above `folder` that exists.
fn existing(folder: &Path) -> &Path {
    let mut above = folder
        .ancestors()
        .filter(|part| !part.as_os_str().is_empty());
    above.find(|part| part.exists()).unwrap_or(Path::new("."))
}

/// Asks the system whether this process may create files in a folder.
fn accessible(folder: &Path) -> io::Result<()> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: the path is a string that ends in a zero byte; nothing is kept of it.
    let answer = unsafe {
        libc::faccessat(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::W_OK | libc::X_OK,
            libc::AT_EACCESS,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the bytes that this process may still write on the file system of a folder; `None` where
/// the system does not say.
pub fn free_space(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: `statvfs` fills in plain data, for which zeros are a valid value.
    let (answer, found) = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut found), found)
    };
    // Some network file systems report nothing at all.
    (answer == 0 && found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}
