//! Names what the jobs of a sweep left where a run finds nothing: each job has a folder of its own,
//! named after what it varies.

use crate::artifact::fault::folder_of;
use crate::error::Error;
use std::path::{Path, PathBuf};

/// Limits the paths that an error lists.
const LISTED: usize = 3;

/// Adds to the error for an input that is missing at `path`, the value of `key`, what jobs of a
/// sweep wrote instead.
pub fn named(error: Error, key: &str, path: &Path) -> Error {
    let found = jobs(path);
    let Some(first) = found.first() else {
        return error;
    };
    let shown = found.iter().take(LISTED).map(|path| path.display());
    let mut shown: Vec<String> = shown.map(|path| path.to_string()).collect();
    if found.len() > LISTED {
        shown.push(format!("and {} more", found.len() - LISTED));
    }
    error.note("available", shown.join(", ")).hint(format!(
        "of a sweep, '{key}=\"{}\"' reads one job's",
        first.display()
    ))
}

/// Returns what jobs of a sweep wrote for `path`, sorted.
fn jobs(path: &Path) -> Vec<PathBuf> {
    let (folder, file) = match (path.extension(), path.file_name()) {
        (Some(_), Some(file)) => (folder_of(path), Some(file)),
        _ => (path, None),
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().contains('='))
        .map(|entry| file.map_or(entry.path(), |file| entry.path().join(file)))
        .filter(|path| path.is_file() == file.is_some() && path.exists())
        .collect();
    found.sort();
    found
}
