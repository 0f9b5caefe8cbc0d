//! Writes the pieces of a body, and demands that its bytes come at a rate.

use super::super::server::Limits;
use crate::artifact::fault::explain;
use crate::error::Error;
use hyper::body::Bytes;
use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom, Write};
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
