//! Prints results to the standard output, for the stages, `inspect` and the command line.

use crate::error::{Error, Result};
use std::io::{ErrorKind, Write};

/// Prints `text` and a line end. A reader that stops early (`| head`) causes no error.
///
/// # Errors
/// Fails when the standard output cannot be written, such as a file on a full disk.
pub fn print(text: impl std::fmt::Display) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::failed(format!(
            "cannot write to the standard output: {error}"
        ))),
        _ => Ok(()),
    }
}
