//! JSON files: pretty, atomic, and never with a number that JSON cannot hold.

use super::fault::explain;
use super::{atomic, finite};
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::Path;

/// Writes `value` to `path`, indented, with a newline at the end.
///
/// # Errors
/// A NaN or an infinity anywhere in `value` (serde_json alone would write `null`); whatever
/// [`atomic::write_with`] refuses.
pub fn write<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    finite::check(value)
        .map_err(|fault| fault.into_error().note("file", path.display().to_string()))?;
    atomic::write_with(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value)
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
            .map_err(|error| explain("write", path, &error))
    })
}

/// `value` as a JSON value.
///
/// # Errors
/// A NaN or an infinity anywhere in `value`.
pub fn value<T: Serialize + ?Sized>(value: &T) -> Result<serde_json::Value> {
    finite::check(value).map_err(finite::Fault::into_error)?;
    serde_json::to_value(value)
        .map_err(|error| Error::failed(format!("cannot be written as JSON: {error}")))
}

/// Reads a `T` from the JSON file at `path`.
///
/// # Errors
/// A file that cannot be read, is not JSON, or holds something else than a `T`: with file, line,
/// column, what was found and expected.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(|error| explain("read", path, &error))?;
    serde_json::from_slice(&text).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &serde_json::Error) -> Error {
    let what = match error.classify() {
        serde_json::error::Category::Data => "does not hold what it should",
        serde_json::error::Category::Eof => "ends too early",
        _ => "is not valid JSON",
    };
    let place = format!("{}:{}:{}", path.display(), error.line(), error.column());
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let error = Error::failed(format!("`{}` {what}", path.display())).note("file", place);
    match text.split_once(", expected ") {
        Some((found, expected)) => error.note("found", found).note("expected", expected),
        None => error.note("found", text),
    }
}
