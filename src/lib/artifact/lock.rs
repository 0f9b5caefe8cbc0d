//! Locks a file, which one process holds at a time, until it ends for whatever reason.
//!
//! The lock is the system's (`flock`), so a killed process leaves none behind; the file may stay,
//! and is taken over by the next.

use super::atomic;
use super::fault::{explain, folder_of};
use crate::error::Result;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a lock is tried for.
const ASKING: Duration = Duration::from_millis(50);

/// Holds a lock. Dropping it releases it and removes its file.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// The lock is on the open file.
    file: File,
}

/// Reports the result of trying to take a lock.
#[derive(Debug)]
pub enum Attempt {
    Taken(Lock),
    /// Another process has it; with what it wrote into the file, if anything.
    Held(String),
}

impl Lock {
    /// Takes the lock at `path` if it is free. File systems without locks grant it always.
    ///
    /// # Errors
    /// Fails for a file that cannot be opened for writing.
    pub fn attempt(path: &Path) -> Result<Attempt> {
        let begun = Instant::now();
        loop {
            let mut file = open(path)?;
            match file.try_lock() {
                // A process that only asks whether the lock is held has it for a moment.
                Err(TryLockError::WouldBlock) if begun.elapsed() < ASKING => {
                    std::thread::sleep(ASKING / 10);
                    continue;
                }
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _ = file.read_to_string(&mut holder);
                    return Ok(Attempt::Held(holder.trim().to_owned()));
                }
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(
                        "the file system has no locks, so that two runs in one folder are not kept \
                         apart: `{}`: {error}",
                        path.display()
                    );
                }
                Ok(()) => {}
            }
            if is_still(path, &file) {
                return Ok(Attempt::Taken(Self::held(path, file)));
            }
        }
    }

    /// Reports whether a process has the lock at `path`, without leaving a file; false where the
    /// file system has no locks.
    pub fn is_held(path: &Path) -> bool {
        // Shared: several processes may ask at once.
        let is_taken = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(path).is_ok_and(is_taken)
    }

    /// Takes the lock at `path`, after waiting for the process that has it; `waiting` is called
    /// again and again meanwhile.
    ///
    /// # Errors
    /// Fails for a file that cannot be opened for writing, and as `waiting` does.
    pub fn wait(path: &Path, mut waiting: impl FnMut() -> Result<()>) -> Result<Self> {
        loop {
            if let Attempt::Taken(lock) = Self::attempt(path)? {
                return Ok(lock);
            }
            waiting()?;
        }
    }

    fn held(path: &Path, mut file: File) -> Self {
        // For the message of a process that finds it taken; the lock holds without it.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "process {}", std::process::id()));
        Self {
            path: path.to_path_buf(),
            file,
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while held: a process that waits for it sees that the file is another one now,
        // and starts over. Where the folder was made again meanwhile, the file is another's.
        if is_still(&self.path, &self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> Result<File> {
    atomic::create_folder(folder_of(path))?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| explain("write", path, error))
}

/// Reports whether `path` names the open file: its last holder may have removed it in between.
fn is_still(path: &Path, file: &File) -> bool {
    let identity = |data: std::fs::Metadata| (data.dev(), data.ino());
    let (named, open) = (std::fs::metadata(path), file.metadata());
    named.ok().map(identity) == open.ok().map(identity)
}
