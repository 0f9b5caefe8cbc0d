//! Keeps events durably: a file of one JSON line an event, synced before [`Journal::append`]
//! returns, so that whatever was answered after it survives a crash.
//!
//! Each line has its number and a SHA-256 over itself and the checksum before it: a line that was
//! changed, removed or put elsewhere is found when the file is read. Half a line at the end is what
//! a crash leaves of an event that nobody was told of, and is dropped.

use crate::artifact::fault::{explain, folder_of};
use crate::artifact::{atomic, hash, json};
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Precedes the checksum, which ends a line.
const SEAL: &str = ",\"sha256\":\"";

/// Holds a journal that is open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    end: End,
    /// True once half a line could not be taken back: nothing may follow it.
    broken: bool,
}

/// Tells where the lines end.
#[derive(Debug, Default)]
struct End {
    /// Bytes of whole lines.
    length: u64,
    /// The number of the next line; the first is 0.
    sequence: u64,
    /// The checksum of the last line.
    checksum: String,
}

#[derive(Deserialize)]
struct Line<E> {
    sequence: u64,
    event: E,
}

impl Journal {
    /// Opens the journal at `path`, creating it, and returns its events.
    ///
    /// # Errors
    /// Fails for a damaged line that is not the half of one at the end, and for a file that cannot
    /// be read or written.
    pub fn open<E: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<E>)> {
        let file = atomic::append(path)?;
        let bytes = std::fs::read(path).map_err(|error| explain("read", path, error))?;
        let (events, end) = replay(&bytes, path)?;
        if end.length < bytes.len() as u64 {
            tracing::warn!(
                "`{}` ended in half a line, which was never acknowledged: it was dropped",
                path.display()
            );
            file.set_len(end.length)
                .map_err(|error| explain("write", path, error))?;
        }
        file.sync_all()
            .and_then(|()| atomic::sync_folder(folder_of(path)))
            .map_err(|error| explain("write", path, error))?;
        let journal = Self {
            path: path.to_path_buf(),
            file,
            end,
            broken: false,
        };
        Ok((journal, events))
    }

    /// Appends an event, and returns when it is on the disk.
    ///
    /// # Errors
    /// Fails when the disk is full or broken; then the event is not in the journal.
    pub fn append(&mut self, event: &impl Serialize) -> Result<()> {
        if self.broken {
            let text = format!("`{}` cannot be written any more", self.path.display());
            return Err(Error::failed(text).hint("see to the disk, then start the server again"));
        }
        let time = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
            .to_string();
        let event = json::value(event)?;
        let text = json!({"sequence": self.end.sequence, "time": time, "event": event}).to_string();
        let body = text.strip_suffix('}').unwrap_or(&text);
        let checksum = checksum(&self.end.checksum, body);
        let line = format!("{body}{SEAL}{checksum}\"}}\n");
        let written = self.file.write_all(line.as_bytes());
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // Half a line must not stand before later ones.
            let taken_back = self.file.set_len(self.end.length);
            self.broken = taken_back.and_then(|()| self.file.sync_all()).is_err();
            return Err(explain("write", &self.path, error));
        }
        self.end = End {
            length: self.end.length + line.len() as u64,
            sequence: self.end.sequence + 1,
            checksum,
        };
        Ok(())
    }
}

/// Returns the checksum of a line, without its seal, after a line that has the checksum `previous`.
fn checksum(previous: &str, body: &str) -> String {
    hash::bytes(format!("{previous}{body}").as_bytes())
}

/// Reads the events of a journal's bytes, and returns where its whole lines end.
fn replay<E: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<(Vec<E>, End)> {
    let (mut events, mut end) = (Vec::new(), End::default());
    let mut rest = bytes;
    // Without its line end, a line was never whole.
    while let Some(length) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, after) = (&rest[..length], &rest[length + 1..]);
        match read_line(line, &end) {
            Ok((event, checksum)) => {
                events.push(event);
                end.length += length as u64 + 1;
                end.sequence += 1;
                end.checksum = checksum;
            }
            // A crash of the machine can leave the length of the last line without its bytes.
            Err(_) if after.is_empty() && line.contains(&0) => break,
            Err(why) => {
                let file = format!("{}:{}", path.display(), end.sequence + 1);
                return Err(
                    Error::failed(format!("the journal `{}` is damaged", path.display()))
                        .note("file", file)
                        .note("found", why)
                        .hint(
                            "put back a copy of the whole folder, or start with a new folder: \
                             clients then upload again",
                        ),
                );
            }
        }
        rest = after;
    }
    Ok((events, end))
}

/// Returns the event of the line that follows `end`, and its checksum; or what is wrong with it.
fn read_line<E: DeserializeOwned>(line: &[u8], end: &End) -> Result<(E, String), String> {
    let text = std::str::from_utf8(line).map_err(|_| "a line that is not text".to_owned())?;
    let sealed = text.rsplit_once(SEAL);
    let (body, seal) = sealed.ok_or_else(|| "a line without a checksum".to_owned())?;
    let checksum = checksum(&end.checksum, body);
    if seal != format!("{checksum}\"}}") {
        return Err("a line that is not the one that was written there".into());
    }
    let line: Line<E> = serde_json::from_str(&format!("{body}}}"))
        .map_err(|error| format!("an event that this version does not know: {error}"))?;
    match line.sequence == end.sequence {
        true => Ok((line.event, checksum)),
        false => Err(format!(
            "line {} in place of {}",
            line.sequence, end.sequence
        )),
    }
}
