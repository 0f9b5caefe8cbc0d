//! Converts paths in a manifest, which are relative to its folder where that makes sense, so that a
//! folder of runs can be moved or copied as a whole.

use crate::artifact::fault::{explain, folder_of};
use crate::error::Result;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// Returns the form of `file` that goes into the manifest at `manifest_path`: relative when both
/// share a folder other than the root, else absolute.
///
/// # Errors
/// Fails when the file or the manifest's folder cannot be found.
pub(super) fn to_record(manifest_path: &Path, file: &Path) -> Result<PathBuf> {
    let base = planned(folder_of(manifest_path))?;
    let file = real(file)?;
    let shared = base
        .components()
        .zip(file.components())
        .take_while(|(one, other)| one == other)
        .count();
    // The first component is the root itself.
    if shared < 2 {
        return Ok(file);
    }
    let up = base.components().skip(shared).map(|_| Component::ParentDir);
    Ok(up.chain(file.components().skip(shared)).collect())
}

/// Returns the current path of the file recorded as `path` in the manifest at `manifest_path`.
pub(crate) fn from_record(manifest_path: &Path, path: &Path) -> PathBuf {
    let folder = folder_of(manifest_path);
    // `..` counts from where the folder really is, not from a link to it.
    let mut current = folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf());
    for part in path.components() {
        match part {
            // No links are left in it, so that a name can be taken away for each.
            Component::ParentDir if current.is_absolute() => _ = current.pop(),
            part => current.push(part),
        }
    }
    current
}

/// Returns true when both paths lead to the same existing file.
pub(super) fn same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .map_err(|error| explain("find", path, error))
}

/// Returns the path of a folder without links, also of one that does not exist yet.
fn planned(folder: &Path) -> Result<PathBuf> {
    match (folder.canonicalize(), folder.file_name()) {
        (Err(error), Some(name)) if error.kind() == ErrorKind::NotFound => {
            Ok(planned(folder_of(folder))?.join(name))
        }
        (result, _) => result.map_err(|error| explain("find", folder, error)),
    }
}
