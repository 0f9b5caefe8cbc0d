//! The file of an answer: the messages of an exchange, one after the other, each behind its length
//! in eight bytes (little-endian), after eight bytes that tell what it is.

use crate::artifact::atomic;
use crate::artifact::fault::explain;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Begins every such file.
const MAGIC: &[u8; 8] = b"answer1\n";

/// Writes the file: to a temporary file, synced, renamed.
///
/// # Errors
/// Fails when it cannot be written.
pub fn write(path: &Path, messages: &[Vec<u8>]) -> Result<()> {
    atomic::write_with(path, |out| {
        out.write_all(MAGIC)?;
        for message in messages {
            out.write_all(&(message.len() as u64).to_le_bytes())?;
            out.write_all(message)?;
        }
        Ok(())
    })
}

/// Returns a message by its index, of a file that was checked.
///
/// # Errors
/// Fails for a file that cannot be read, and has fewer messages.
pub fn read(path: &Path, index: usize) -> Result<Vec<u8>> {
    let broken = |error| explain("read", path, error);
    let file = File::open(path).map_err(broken)?;
    let mut left = file.metadata().map_err(broken)?.len();
    let mut file = BufReader::new(file);
    begin(&mut file, &mut left)?;
    for _ in 0..index {
        let length = next(&mut file, &mut left)?;
        file.seek(SeekFrom::Current(length as i64))
            .map_err(broken)?;
    }
    let length = next(&mut file, &mut left)?;
    let mut message = vec![0; length as usize];
    file.read_exact(&mut message).map_err(broken)?;
    Ok(message)
}

/// Reads the beginning of such a file, of which `left` bytes are left.
///
/// # Errors
/// Fails for another file.
pub fn begin(file: &mut impl Read, left: &mut u64) -> Result<()> {
    let mut magic = [0; 8];
    let is_one = *left >= 8 && file.read_exact(&mut magic).is_ok() && magic == *MAGIC;
    *left = left.saturating_sub(8);
    match is_one {
        true => Ok(()),
        false => Err(Error::failed("this is no answer of a client")),
    }
}

/// Reads the length of the next message, and takes length and message from `left`.
///
/// # Errors
/// Fails when there are fewer bytes.
pub fn next(file: &mut impl Read, left: &mut u64) -> Result<u64> {
    let short = || Error::failed("the answer ends before its last message");
    let mut length = [0; 8];
    if *left < 8 {
        return Err(short());
    }
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    match (*left - 8).checked_sub(length) {
        Some(rest) => {
            *left = rest;
            Ok(length)
        }
        None => Err(short()),
    }
}
