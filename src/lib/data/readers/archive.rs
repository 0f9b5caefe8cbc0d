//! Reads compressed files, and tar and zip archives as streams of entries, and refuses what
//! decompresses to more than its bounds. Used by the readers; writes nothing.

use super::input::{self, Input};
use super::{damaged, damaged_by};
use crate::error::{Result, Text};
use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};
use std::rc::Rc;

/// Most bytes that an archive may decompress to.
const MAX_ARCHIVE: u64 = 64 << 30;

/// Most bytes between the contents of two entries: headers, long names, padding.
const MAX_BETWEEN: u64 = 1 << 20;

/// Most bytes in the name of an entry, as file systems have it.
const MAX_NAME: usize = 4096;

/// Most bytes in all names of an archive together.
const MAX_NAMES: usize = 128 << 20;
/// Bytes that an entry is taken for beside its name and its target.
const ENTRY: usize = 64;

/// Most memory for the dictionary of xz, in KiB: twice what its highest setting takes.
const MAX_DICTIONARY: u32 = 128 << 10;

/// Names how a file is compressed.
#[derive(Clone, Copy)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    /// Recognises the compression by the first bytes of a file.
    pub fn of(start: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 4] = [
            (b"\x1f\x8b", Self::Gzip),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"BZh", Self::Bzip2),
        ];
        let found = known.iter().find(|(magic, _)| start.starts_with(magic));
        found.map(|&(_, compression)| compression)
    }
}

/// Returns true for the first bytes of a zip archive, be it an empty one.
pub(super) fn is_zip(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06")
}

/// Opens a file and decompresses it when its first bytes are those of a compressed one.
pub(super) fn decompressed(path: &Path) -> Result<Box<dyn Read>> {
    let mut file = input::open(path)?;
    Ok(match Compression::of(file.fill_buf()?) {
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some(Compression::Zstd) => {
            Box::new(zstd::Decoder::with_buffer(file).map_err(|error| damaged_by(path, error))?)
        }
        Some(Compression::Xz) => Box::new(lzma_rust2::XzReader::new_mem_limit(
            file,
            true,
            MAX_DICTIONARY,
        )),
        Some(Compression::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
        None => Box::new(file),
    })
}

/// Holds an entry of an archive. Names are relative, their components joined by `/`.
pub(super) enum Entry<'a> {
    File {
        name: &'a str,
        size: u64,
        contents: &'a mut dyn Read,
    },
    Folder(&'a str),
    /// Another name of the entry `target`: a hard link, or a symbolic link within the archive.
    Link {
        name: &'a str,
        target: String,
    },
    /// What cannot be read from the archive: a link that leads out of it, a device.
    Other,
}

/// Calls `visit` with each file of an archive, as [`entries`] does with each entry.
pub(super) fn walk(
    path: &Path,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    entries(path, |entry| match entry {
        Entry::File {
            name,
            size,
            contents,
        } => visit(name, size, contents),
        _ => Ok(()),
    })
}

/// Calls `visit` with each entry of the archive, in the archive's order.
///
/// # Errors
/// Fails when the archive is damaged or cut off, when a name is absolute, contains `..`, is not
/// UTF-8 or is too long, when the contents exceed the bounds on size, and when `visit` fails.
pub(super) fn entries(path: &Path, mut visit: impl FnMut(Entry) -> Result<()>) -> Result<()> {
    let mut names = 0;
    let visit = |entry: Entry| {
        let target = match &entry {
            Entry::Link { target, .. } => target.len(),
            _ => 0,
        };
        if let Entry::File { name, .. } | Entry::Folder(name) | Entry::Link { name, .. } = &entry {
            names += name.len() + target + ENTRY;
            if names > MAX_NAMES {
                let most = MAX_NAMES >> 20;
                return Err(damaged(
                    path,
                    format!("its names take more than {most} MiB"),
                ));
            }
        }
        visit(entry)
    };
    let mut file = input::open(path)?;
    match is_zip(file.fill_buf()?) {
        true => zip_entries(path, file, visit),
        false => tar_entries(path, visit),
    }
}

/// Visits the entries of a zip archive.
fn zip_entries(
    path: &Path,
    file: BufReader<Input>,
    mut visit: impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    /// Type of a symbolic link in the mode of a file.
    const LINK: u32 = 0o12_0000;
    let incomplete =
        |error: zip::result::ZipError| incomplete(path, format!("{error}").into()).caused_by(error);
    let mut archive = zip::ZipArchive::new(file).map_err(incomplete)?;
    let mut total = 0_u64;
    for index in 0..archive.len() {
        // `by_index` panics at some damaged entries that say they are encrypted.
        let mut entry = archive
            .by_index_decrypt(index, &[])
            .map_err(incomplete)?
            .map_err(|_| damaged(path, "an entry is encrypted"))?;
        let name = safe_name(path, entry.name().as_bytes())?;
        let size = entry.size();
        total = total.saturating_add(size);
        if total > MAX_ARCHIVE {
            return Err(damaged(path, "it decompresses to more than 64 GiB"));
        }
        if entry.is_dir() {
            visit(Entry::Folder(&name))?;
        } else if entry
            .unix_mode()
            .is_some_and(|mode| mode & 0o17_0000 == LINK)
        {
            let mut target = Vec::new();
            entry
                .take(MAX_NAME as u64)
                .read_to_end(&mut target)
                .map_err(|error| damaged_by(path, error))?;
            visit(link(&name, beside(&name, &target)))?;
        } else {
            // One byte more, so that the checksum behind the last one is compared.
            let mut contents = (&mut entry).take(size.saturating_add(1));
            visit(Entry::File {
                name: &name,
                size,
                contents: &mut contents,
            })?;
        }
    }
    Ok(())
}

/// Visits the entries of a tar archive.
fn tar_entries(path: &Path, mut visit: impl FnMut(Entry) -> Result<()>) -> Result<()> {
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
    // An error of the archive as a whole is reported instead of the one that it causes in the
    // entry that was being read.
    let check_whole = || match (broken.take(), ended.get()) {
        (Some(error), _) => Err(incomplete(path, error.to_string().into()).caused_by(error)),
        (None, true) => Err(incomplete(path, "the archive is cut off".into())),
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
        let visited = visit_tar(path, &mut entry, size, &mut visit);
        check_whole()?;
        visited?;
    }
    // A complete archive has an end mark. Reading the rest of the file verifies the checksum of the
    // compression.
    check_whole()?;
    let mut rest = archive.into_inner();
    allowance.set(64 * MAX_BETWEEN);
    io::copy(&mut rest, &mut io::sink()).map_err(|error| damaged_by(path, error))?;
    Ok(())
}

/// Calls `visit` with one entry of a tar archive.
fn visit_tar(
    path: &Path,
    entry: &mut tar::Entry<impl Read>,
    size: u64,
    visit: &mut impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let kind = entry.header().entry_type();
    if matches!(
        kind,
        tar::EntryType::XGlobalHeader | tar::EntryType::XHeader
    ) {
        return Ok(());
    }
    let name = safe_name(path, &entry.path_bytes())?;
    if is_pax_sparse(entry).map_err(|error| damaged_by(path, error))? {
        return visit(Entry::Other);
    }
    let target = entry.link_name_bytes();
    match (kind, target) {
        (tar::EntryType::Directory, _) => visit(Entry::Folder(&name)),
        // The name of a file that ends in `/` is that of a folder, in archives before 1988.
        (tar::EntryType::Regular, _) if entry.path_bytes().ends_with(b"/") => {
            visit(Entry::Folder(&name))
        }
        (tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse, _) => {
            visit(Entry::File {
                name: &name,
                size,
                contents: entry,
            })
        }
        (tar::EntryType::Link, Some(target)) => visit(Entry::Link {
            name: &name,
            target: safe_name(path, &target)?,
        }),
        (tar::EntryType::Symlink, Some(target)) => visit(link(&name, beside(&name, &target))),
        _ => visit(Entry::Other),
    }
}

/// Returns true for a sparse file in the form of POSIX archives, whose contents begin with a map
/// that is not read.
fn is_pax_sparse(entry: &mut tar::Entry<impl Read>) -> io::Result<bool> {
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(false);
    };
    for extension in extensions {
        if extension?.key_bytes().starts_with(b"GNU.sparse") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn link(name: &str, target: Option<String>) -> Entry<'_> {
    match target {
        Some(target) => Entry::Link { name, target },
        None => Entry::Other,
    }
}

/// Returns the entry that a symbolic link `name` with this target leads to, or `None` when it leads
/// out of the archive.
fn beside(name: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    if target.len() > MAX_NAME {
        return None;
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        return None;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Returns the error for an archive of which a part is missing or changed.
fn incomplete(path: &Path, problem: Text) -> crate::Error {
    super::unreadable(path, problem)
        .hint("fetch or pack the archive again: it is incomplete or damaged")
}

/// Returns the name as relative components joined by `/`.
///
/// # Errors
/// Fails when the name is absolute, contains `..`, is not UTF-8 or is too long.
fn safe_name(path: &Path, name: &[u8]) -> Result<String> {
    if name.len() > MAX_NAME {
        let problem = format!("the name of an entry has {} bytes", name.len());
        return Err(damaged(path, problem).note("expected", format!("at most {MAX_NAME}")));
    }
    let parts = std::str::from_utf8(name).ok().and_then(|name| {
        let mut parts = Vec::new();
        for component in Path::new(name).components() {
            match component {
                Component::Normal(part) => parts.push(part.to_str()?),
                Component::CurDir => {}
                _ => return None,
            }
        }
        Some(parts.join("/"))
    });
    parts.ok_or_else(|| {
        let name = String::from_utf8_lossy(name);
        damaged(path, "an entry has an unsafe name").note("found", format!("{name:?}"))
    })
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
