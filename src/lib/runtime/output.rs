//! Results on the standard output: an error when they cannot be written, never a panic.

use crate::error::{Error, Result};
use std::io::{ErrorKind, Write};

/// Writes `text` and a line end. A reader that stops early (`| head`) is no error.
///
/// # Errors
/// A full disk or a closed device behind the standard output.
pub fn say(text: impl std::fmt::Display) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::failed(format!(
            "cannot write to the standard output: {error}"
        ))),
        _ => Ok(()),
    }
}
