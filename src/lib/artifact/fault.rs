//! Turns an I/O error into one that names the path and what to do about it.

use crate::error::{Error, advice};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Returns `cannot {verb} {path}: {why}`, with a hint for the causes users meet.
pub(crate) fn explain(verb: &str, path: &Path, error: io::Error) -> Error {
    let shown = path.display();
    if let Some(file) = file_in_the_way(path, &error) {
        return Error::failed(format!(
            "cannot {verb} `{shown}`: `{}` is a file, not a folder",
            file.display()
        ))
        .hint("choose another place, or move that file away")
        .caused_by(error);
    }
    let plain = Error::failed(format!("cannot {verb} `{shown}`: {error}"));
    match error.kind() {
        ErrorKind::PermissionDenied => plain.hint(format!(
            "choose a place that you may use, or see whose it is: `ls -ld {}`",
            folder_of(path).display()
        )),
        ErrorKind::NotFound => {
            plain.hint("check the path; relative paths start at the current folder")
        }
        kind => match advice(kind) {
            Some(hint) => plain.hint(hint),
            None => plain,
        },
    }
    .caused_by(error)
}

/// Adds what the error of whatever filled `path` leaves out: the file's name, and the hint for a
/// full disk.
pub(super) fn complete(error: Error, path: &Path) -> Error {
    let shown = path.display().to_string();
    let hint = error.io().and_then(|io| advice(io.kind()));
    let error = match error.to_string().contains(&shown) {
        true => error,
        false => error.note("file", shown),
    };
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Returns the folder that holds `path`; the current one for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns the file that stands where a folder of `path` should be, if that is what `error` is
/// about.
fn file_in_the_way<'a>(path: &'a Path, error: &io::Error) -> Option<&'a Path> {
    if !matches!(
        error.kind(),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists
    ) {
        return None;
    }
    path.ancestors().find(|part| part.is_file())
}
