//! Writes files so that a reader sees the old content or the new, never half of it, whatever
//! happens in between.
//!
//! The content goes to a temporary file in the same folder, which is synced and renamed. On any
//! error the temporary file is removed and what was there stays. Only a killed process leaves its
//! temporary file (`.fed-distill.*.tmp`), which nothing reads and [`remove_stale`] removes: a
//! process that writes one holds a lock on it.

use super::fault::{complete, explain, folder_of};
use crate::error::{Error, Result};
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Writes `bytes` to `path`, creating its folders.
///
/// # Errors
/// Fails as [`write_with`] does.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |out| {
        out.write_all(bytes)
            .map_err(|error| explain("write", path, error))
    })
}

/// Writes to `path` what `fill` puts into the writer, creating its folders.
///
/// A link to a file is followed: the file it names is replaced, the link stays.
///
/// # Errors
/// Fails as `fill` does, with the file's name, and for a lack of permission or space; a parent that
/// is a file; a path that is a folder or a device.
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
) -> Result<()> {
    let target = destination(path)?;
    let folder = folder_of(&target);
    create_folder(folder)?;
    let broken = |error: io::Error| explain("write", &target, error);

    let temporary = temporary_in(folder).map_err(broken)?;
    let mut out = BufWriter::new(temporary.as_file());
    fill(&mut out).map_err(|error| complete(error, path))?;
    out.flush().map_err(broken)?;
    drop(out);
    temporary.as_file().sync_all().map_err(broken)?;
    temporary
        .persist(&target)
        .map_err(|error| broken(error.error))?;
    sync_folder(folder).map_err(broken)
}

/// Creates the folder `path` and its parents; one that is there already is fine.
///
/// # Errors
/// Fails without permission, and when there is a file at that path.
pub fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| explain("create the folder", path, error))
}

/// Opens the file at `path` to append to it, creating it and its folders: for logs, which grow
/// during a run.
///
/// # Errors
/// Fails without permission, and when something else is at that path.
pub fn append(path: &Path) -> Result<File> {
    create_folder(folder_of(path))?;
    let opened = File::options().create(true).append(true).open(path);
    opened.map_err(|error| explain("write", path, error))
}

/// Gives a file that is complete a second name, unless that is taken; a copy where the file system
/// has no links. Both are on the disk then.
///
/// # Errors
/// Fails for a file that cannot be read, and a folder that cannot be written.
pub fn link_or_copy(file: &Path, name: &Path) -> Result<()> {
    let broken = |error| explain("write", name, error);
    let mut complete = File::open(file).map_err(broken)?;
    complete.sync_all().map_err(broken)?;
    match std::fs::hard_link(file, name) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(_) => write_with(name, |out| {
            io::copy(&mut complete, out).map_err(broken)?;
            Ok(())
        })?,
    }
    sync_folder(folder_of(name)).map_err(broken)
}

/// Returns where the rename goes: `path`, or what it links to. Only regular files are ever replaced
/// (a rename would replace `/dev/null` too).
fn destination(path: &Path) -> Result<PathBuf> {
    let refuse = |why: &str| Error::failed(format!("cannot write `{}`: {why}", path.display()));
    if path.file_name().is_none() {
        return Err(refuse("that is not the name of a file"));
    }
    match path.canonicalize() {
        // A link to a file that is not there yet leads to where it is to be.
        Err(error) => match path.read_link() {
            Ok(target) if error.kind() == ErrorKind::NotFound => {
                destination(&folder_of(path).join(target))
            }
            _ => Ok(path.to_path_buf()),
        },
        Ok(real) if real.is_file() => Ok(real),
        Ok(real) if real.is_dir() => {
            Err(refuse("it is a folder").hint("give the name of a file, say one inside it"))
        }
        Ok(_) => Err(refuse("it is neither a file nor a folder").hint("give the name of a file")),
    }
}

/// Removes the temporary files in `folder` whose processes died. What cannot be removed stays.
pub fn remove_stale(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            // Locked until it is removed, so that its process does not take it for its own.
            // Opened to be written, without which a network file system gives no lock.
            let file = File::options().read(true).write(true).open(entry.path());
            let Ok(file) = file else {
                continue;
            };
            if file.try_lock().is_ok() && std::fs::remove_file(entry.path()).is_ok() {
                tracing::debug!(
                    "removed what a killed process left: `{}`",
                    entry.path().display()
                );
            }
        }
    }
}

const PREFIX: &str = ".fed-distill.";
const SUFFIX: &str = ".tmp";

fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    loop {
        let temporary = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            // The user's umask decides, as for any file; the default of temporary files is private.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        // Another process may have taken it for stale before it was locked. Where the file system
        // has no locks, nothing is ever taken for stale.
        let is_taken = matches!(
            temporary.as_file().try_lock(),
            Err(TryLockError::WouldBlock)
        );
        if !is_taken && temporary.as_file().metadata()?.nlink() > 0 {
            return Ok(temporary);
        }
    }
}

/// Makes the rename itself durable. Folders that cannot be opened or synced (some network file
/// systems) are left to the system.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}
