//! Turns an I/O error into one that names the path and what to do about it.

use crate::error::{Error, Result, advice};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
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

/// Names what lies at `path` if it is neither a file nor a folder: `a pipe`.
pub(crate) fn special(path: &Path) -> Option<&'static str> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    match () {
        () if kind.is_file() || kind.is_dir() => None,
        () if kind.is_fifo() => Some("a pipe"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}

/// Refuses to read a pipe, a device or a socket: to open one may wait for ever, and to read one may
/// never end.
pub(crate) fn refuse_special(path: &Path) -> Result<()> {
    match special(path) {
        Some(kind) => {
            let what = format!("cannot read `{}`: it is {kind}, not a file", path.display());
            Err(Error::failed(what).note("file", path.display().to_string()))
        }
        None => Ok(()),
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
