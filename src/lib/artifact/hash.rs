//! Computes the SHA-256 of files and bytes, as lower-case hexadecimal.

use super::fault::{explain, refuse_special};
use crate::error::Result;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Read at a time: large enough that the hashing dominates.
const CHUNK: usize = 1 << 20;

/// Returns the length in bytes and the SHA-256 of the file at `path`.
///
/// # Errors
/// Fails for a file that cannot be opened or read.
pub fn file(path: &Path) -> Result<(u64, String)> {
    refuse_special(path)?;
    let broken = |error| explain("read", path, error);
    let mut file = File::open(path).map_err(broken)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let count = file.read(&mut chunk).map_err(broken)?;
        if count == 0 {
            return Ok((total, format!("{:x}", hash.finalize())));
        }
        hash.update(chunk.get(..count).unwrap_or_default());
        total += count as u64;
    }
}

/// Returns the SHA-256 of `bytes`.
pub fn bytes(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
