//! Prints results to the standard output, for the stages, `inspect` and the command line.

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::io::{ErrorKind, Write};

/// Prints `text`, as [`printable`] returns it, and a line end. A reader that stops early (`| head`)
/// causes no error.
///
/// # Errors
/// Fails when the standard output cannot be written, such as a file on a full disk.
pub fn print(text: impl std::fmt::Display) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{}", printable(&text.to_string())) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::failed(format!(
            "cannot write to the standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Returns text for a terminal: control characters, by which a name in a file could move the cursor
/// or hide what is printed, are written out as `\u{1b}`. Line ends and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_hidden = |c: char| {
        c.is_control() && !"\n\t".contains(c)
            // Characters that change the direction of the text.
            || matches!(c, '\u{200e}' | '\u{200f}')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        match is_hidden(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}
