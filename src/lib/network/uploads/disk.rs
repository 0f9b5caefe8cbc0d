//! Writes pieces and keeps whole files, and demands that the bytes of a body come at a rate.

use super::super::server::Limits;
use crate::artifact::atomic;
use crate::artifact::fault::{explain, folder_of};
use crate::error::Error;
use hyper::body::Bytes;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Writes what comes out of the channel, from `offset` on, and syncs it.
pub(super) fn write_pieces(
    path: &Path,
    offset: u64,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<(), Error> {
    let mut write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        while let Some(bytes) = pieces.blocking_recv() {
            file.write_all(&bytes)?;
        }
        file.sync_data()
    };
    write().map_err(|error| explain("write", path, error))
}

/// Gives a file that is complete a second name, unless it has it; a copy where the file system has
/// no links. Both are on the disk then.
///
/// # Errors
/// Fails for a file that cannot be read, and a folder that cannot be written.
pub fn keep(part: &Path, blob: &Path) -> Result<(), Error> {
    let broken = |error| explain("write", blob, error);
    File::open(part)
        .and_then(|file| file.sync_all())
        .map_err(broken)?;
    let linked = std::fs::hard_link(part, blob);
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(_) => {
            let mut file = File::open(part).map_err(broken)?;
            atomic::write_with(blob, |out| {
                io::copy(&mut file, out).map_err(broken)?;
                Ok(())
            })?;
        }
        Ok(()) => {}
    }
    atomic::sync_folder(folder_of(blob)).map_err(broken)
}

/// Demands that the bytes of a body come at a rate, after a time of grace.
pub(super) struct Pace {
    began: Instant,
    last: Instant,
    pub bytes: u64,
    grace: Duration,
    rate: u64,
}

impl Pace {
    pub fn new(limits: &Limits) -> Self {
        let began = Instant::now();
        Self {
            began,
            last: began,
            bytes: 0,
            grace: limits.grace,
            rate: limits.rate,
        }
    }

    pub fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.last = Instant::now();
    }

    /// Returns when the next bytes must be here. Who was fast may not pause for longer.
    pub fn deadline(&self) -> Instant {
        let earned = Duration::from_secs_f64(self.bytes as f64 / self.rate.max(1) as f64);
        (self.began + self.grace + earned).min(self.last + self.grace)
    }
}
