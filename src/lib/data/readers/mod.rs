//! Reads the formats of datasets, one format a file, from a folder or an archive to pixels and
//! labels on the host. Called by `load`.
//!
//! The readers change no file. Whatever a file holds, they return a dataset or an error that names
//! the file: sizes are checked before memory is allocated, and decompression is bounded.

mod archive;
mod cifar;
mod decode;
mod digits;
mod idx;
mod image_folder;
pub(super) mod input;
mod layout;
mod listing;
mod numpy;

use super::load::TargetShape;
use super::raw::RawSet;
use super::settings::{DatasetKind, DatasetSettings};
use crate::error::{Error, Result, Text, assignment, parameter};
use crate::runtime::interrupt;
use std::path::Path;

/// Reads the dataset that `settings` names. The reader of image folders converts each image to
/// `target`, because its images may differ in size and channels; the others return the files' own
/// shape.
///
/// # Errors
/// Fails when `root` is not set (usage), when files are missing or damaged, when a download fails,
/// and when a stop was asked for.
pub(super) fn read(settings: &DatasetSettings, target: &TargetShape) -> Result<RawSet> {
    let kind = settings.kind;
    if kind == DatasetKind::Digits {
        return digits::read();
    }
    let root = settings.root.as_deref().ok_or_else(|| no_root(kind))?;
    let set = match kind {
        DatasetKind::Cifar10 | DatasetKind::Cifar100 => cifar::read(kind, root, *settings.download),
        DatasetKind::ImageFolder => image_folder::read(root, target, settings),
        _ => idx::read(kind, root, *settings.download),
    };
    // What failed after a stop was asked for failed because of that.
    match interrupt::requested() {
        true => Err(interrupt::stopped()),
        false => set,
    }
}

fn no_root(kind: DatasetKind) -> Error {
    let error = Error::usage(parameter("root") + " is not set")
        .note("while", format!("looking for dataset `{kind}`"));
    match kind {
        DatasetKind::ImageFolder => error.hint(
            assignment("root", "PATH") + ": the folder or archive that holds train/ and test/",
        ),
        _ => error.hint(
            assignment("root", format!("data/{kind}"))
                + ": the folder that holds its files, or is to hold them",
        ),
    }
}

/// Returns the error for a file whose contents are not what they should be.
fn damaged(file: &Path, problem: impl std::fmt::Display) -> Error {
    unreadable(file, problem.to_string().into())
}

/// Returns the error for a file that cannot be read because of another error, which it keeps.
fn damaged_by(file: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    damaged(file, &cause).caused_by(cause)
}

/// Returns that of [`damaged`] for a text that may name parameters.
fn unreadable(file: &Path, problem: Text) -> Error {
    let name = file.file_name().unwrap_or(file.as_os_str());
    let what = Text::from(format!("cannot read `{}`: ", name.to_string_lossy())) + problem;
    Error::failed(what).note("file", file.display().to_string())
}
