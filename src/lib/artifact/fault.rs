//! Turns an I/O error into one that names the path and says what to do about it. Used by everything
//! in this room.

use crate::error::{Error, advice};
use std::io::{self, ErrorKind};
use std::path::Path;

/// `cannot {verb} {path}: {why}`, with a hint for the causes users meet.
pub(crate) fn explain(verb: &str, path: &Path, error: &io::Error) -> Error {
    let shown = path.display();
    if let Some(file) = file_in_the_way(path, error) {
        return Error::failed(format!(
            "cannot {verb} `{shown}`: `{}` is a file, not a folder",
            file.display()
        ))
        .hint("choose another place, or move that file away");
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
}

/// Adds to the error of what filled `path` what it does not say yet: the file, and the hint for a
/// full disk. An [`Error`] keeps no [`ErrorKind`], so the system's own words for it are looked for.
pub(super) fn complete(error: Error, path: &Path) -> Error {
    let (text, shown) = (error.to_string(), path.display().to_string());
    let error = if text.contains(&shown) {
        error
    } else {
        error.note("file", shown)
    };
    let known =
        [libc::ENOSPC, libc::EDQUOT, libc::EFBIG, libc::EROFS].map(io::Error::from_raw_os_error);
    let met = known.iter().find(|known| text.contains(&known.to_string()));
    match met.and_then(|known| advice(known.kind())) {
        Some(hint) if !text.contains(hint) => error.hint(hint),
        _ => error,
    }
}

/// The folder that holds `path`; the current one for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The file that stands where a folder of `path` should be, if that is what `error` is about.
fn file_in_the_way<'a>(path: &'a Path, error: &io::Error) -> Option<&'a Path> {
    if !matches!(
        error.kind(),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists
    ) {
        return None;
    }
    path.ancestors().find(|part| part.is_file())
}
