//! Opens the files of datasets: regular files only, whose reading ends when a stop was asked for.
//! Also lists what lies in a folder, for errors. Used by the readers.

use super::damaged;
pub(super) use crate::artifact::fault::special;
use crate::error::Result;
use crate::runtime::interrupt;
use fs_err::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Entries that an error lists at most.
pub(super) const SHOWN: usize = 20;

/// Reads a file, and fails as soon as a stop was asked for: a large archive takes minutes.
pub(super) struct Input(File);

/// Opens a regular file, or a link to one.
///
/// # Errors
/// Fails for a pipe, a device and a socket, which may never end, and when the file cannot be
/// opened.
pub(super) fn open(path: &Path) -> Result<BufReader<Input>> {
    if let Some(kind) = special(path) {
        return Err(damaged(path, format!("it is {kind}, not a file")));
    }
    Ok(BufReader::with_capacity(1 << 16, Input(File::open(path)?)))
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if interrupt::requested() {
            return Err(io::Error::other("interrupted"));
        }
        self.0.read(buffer)
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// Lists what lies in a folder, sorted, a folder with `/` behind its name: the first [`SHOWN`], and
/// the number of others. Returns `None` where there is no such folder.
pub(in crate::data) fn contents(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.flatten().map(|entry| {
        let slash = if entry.path().is_dir() { "/" } else { "" };
        format!("{}{slash}", entry.file_name().to_string_lossy())
    });
    Some(some_of(names.collect()))
}

/// Joins the first [`SHOWN`] of the sorted names, and counts the others.
pub(super) fn some_of(mut names: Vec<String>) -> String {
    names.sort();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
    match (names.as_slice(), more) {
        ([], _) => "nothing".into(),
        (names, 0) => names.join(", "),
        (names, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// Returns a name as it can be shown: without control characters, and not longer than a line.
pub(super) fn shown(name: &str) -> String {
    let mut shown = String::new();
    for letter in name.chars().take(80) {
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}
