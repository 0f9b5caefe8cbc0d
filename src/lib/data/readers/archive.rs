//! Reads compressed files and tar archives as streams and refuses what decompresses to more than
//! its bounds. Used by the readers; writes nothing.

use super::{damaged, damaged_by};
use crate::error::Result;
use fs_err::File;
use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};
use std::rc::Rc;

/// Most bytes that an archive may decompress to.
const MAX_ARCHIVE: u64 = 64 << 30;

/// Most bytes between the contents of two entries: headers, long names, padding.
const MAX_BETWEEN: u64 = 1 << 20;

/// Opens a file and decompresses it when its first bytes are those of gzip or zstd.
pub(super) fn decompressed(path: &Path) -> Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let start = file.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(file).map_err(|error| damaged_by(path, error))?)
    } else {
        Box::new(file)
    })
}

/// Calls `visit` with the name (components joined by `/`), the size and the contents of each
/// regular file in the archive, in the archive's order.
///
/// # Errors
/// Fails when the archive is damaged or cut off, when a name is absolute, contains `..` or is not
/// UTF-8, when the contents exceed the bounds on size, and when `visit` fails.
pub(super) fn walk(
    path: &Path,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let allowance = Rc::new(Cell::new(MAX_BETWEEN));
    let ended = Rc::new(Cell::new(false));
    let broken = Rc::new(RefCell::new(None));
    let mut archive = tar::Archive::new(Bounded {
        inner: decompressed(path)?,
        allowance: Rc::clone(&allowance),
        total: MAX_ARCHIVE,
        ended: Rc::clone(&ended),
        broken: Rc::clone(&broken),
    });
    // An error of the archive as a whole is reported in place of the one that it causes in the
    // entry that was being read.
    let check_whole = || match (broken.take(), ended.get()) {
        (Some(error), _) => Err(incomplete(path, &error.to_string()).caused_by(error)),
        (None, true) => Err(incomplete(path, "the archive is cut off")),
        (None, false) => Ok(()),
    };
    for entry in archive.entries().map_err(|error| damaged_by(path, error))? {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                check_whole()?;
                return Err(damaged_by(path, error));
            }
        };
        let stored = entry.header().entry_size().unwrap_or(0);
        let size = entry.size();
        allowance.set(size.max(stored).saturating_add(MAX_BETWEEN));
        if entry.header().entry_type().is_file() {
            let name = safe_name(&entry.path().map_err(|error| damaged_by(path, error))?)
                .ok_or_else(|| unsafe_name(path, &entry.path_bytes()))?;
            let visited = visit(&name, size, &mut entry);
            check_whole()?;
            visited?;
        }
    }
    // A complete archive has an end mark. Reading the rest of the file verifies the checksum of the
    // compression.
    check_whole()?;
    let mut rest = archive.into_inner();
    allowance.set(64 * MAX_BETWEEN);
    io::copy(&mut rest, &mut io::sink()).map_err(|error| damaged_by(path, error))?;
    Ok(())
}

/// Returns the error for an archive of which a part is missing or changed.
fn incomplete(path: &Path, problem: &str) -> crate::Error {
    damaged(path, problem).hint("fetch or pack the archive again: it is incomplete or damaged")
}

fn unsafe_name(path: &Path, name: &[u8]) -> crate::Error {
    let name = String::from_utf8_lossy(name);
    damaged(path, "an entry has an unsafe name").note("found", format!("{name:?}"))
}

/// Returns the name as relative components joined by `/`, or `None` when it is absolute, contains
/// `..` or is not UTF-8.
fn safe_name(name: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

/// Reads from `inner`, and fails after `allowance` bytes until that is set again, and after `total`
/// bytes altogether.
struct Bounded<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
    total: u64,
    /// Is set when the end of the data is reached.
    ended: Rc<Cell<bool>>,
    /// Holds the error of the file or of its compression.
    broken: Rc<RefCell<Option<io::Error>>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.get().min(self.total);
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other(
                "it decompresses to more than its headers allow",
            ));
        }
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match self.inner.read(&mut buffer[..most]) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                let same = io::Error::new(error.kind(), error.to_string());
                self.broken.replace(Some(error));
                return Err(same);
            }
            count => count?,
        };
        if count == 0 && most > 0 {
            self.ended.set(true);
        }
        self.allowance.set(self.allowance.get() - count as u64);
        self.total -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_reader_stops_at_either_bound() {
        let allowance = Rc::new(Cell::new(10));
        let mut reader = Bounded {
            inner: io::repeat(0),
            allowance: Rc::clone(&allowance),
            total: 15,
            ended: Rc::default(),
            broken: Rc::default(),
        };
        let mut read_all = |expected: usize| {
            let mut bytes = Vec::new();
            assert!(reader.read_to_end(&mut bytes).is_err());
            assert_eq!(bytes.len(), expected);
        };
        read_all(10);
        allowance.set(10);
        read_all(5);
    }
}
