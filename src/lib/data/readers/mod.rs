//! Readers of the formats in the wild, one a file: from a folder or archive to pixels and labels on
//! the host. Called by `load`.
//!
//! They only ever read. Whatever a file holds, the outcome is a set or an error that names the
//! file: sizes are checked before memory is taken for them, and decompression is bounded.

mod archive;
mod cifar;
mod decode;
mod digits;
mod idx;
mod image_folder;
mod place;

use super::load::Wanted;
use super::raw::RawSet;
use super::settings::{DatasetKind, DatasetSettings};
use crate::error::{Error, Result};
use std::path::Path;

/// Reads the set that `settings` names. `wanted` matters to formats whose images may differ in size
/// or channels.
pub(super) fn read(settings: &DatasetSettings, wanted: &Wanted) -> Result<RawSet> {
    let kind = settings.kind;
    if kind == DatasetKind::Digits {
        return digits::read();
    }
    let root = settings.root.as_deref().ok_or_else(|| no_root(kind))?;
    match kind {
        DatasetKind::Cifar10 | DatasetKind::Cifar100 => cifar::read(kind, root, *settings.download),
        DatasetKind::ImageFolder => image_folder::read(root, wanted),
        _ => idx::read(kind, root, *settings.download),
    }
}

fn no_root(kind: DatasetKind) -> Error {
    let name = kind.name();
    let error = Error::usage("`dataset.root` is not set")
        .note("while", format!("looking for dataset `{name}`"));
    match kind {
        DatasetKind::ImageFolder => {
            error.hint("`dataset.root=PATH`: the folder or archive that holds train/ and test/")
        }
        _ => error.hint(format!(
            "`dataset.root=data/{name}`: the folder that holds its files, or is to hold them"
        )),
    }
}

/// The error for a file that cannot be what it should be.
fn damaged(file: &Path, problem: impl std::fmt::Display) -> Error {
    let name = file.file_name().unwrap_or(file.as_os_str());
    Error::failed(format!(
        "cannot read `{}`: {problem}",
        name.to_string_lossy()
    ))
    .note("file", file.display().to_string())
}
