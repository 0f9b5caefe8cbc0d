//! Reads, writes and compares JSON. Files are indented and written atomically, and never hold a
//! number that JSON cannot hold.

use super::atomic;
use super::fault::{explain, refuse_special};
use crate::error::{Error, Result};
use ciborium::Value as Tree;
use ciborium_ll::{Decoder, Header};
use indexmap::IndexMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Write;
use std::path::Path;

/// Writes `value` to `path`, indented, with a newline at the end.
///
/// # Errors
/// Fails for a NaN or an infinity anywhere in `value` (serde_json alone would write `null`);
/// whatever [`atomic::write_with`] refuses.
pub fn write<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    check(value).map_err(|error| error.note("file", path.display().to_string()))?;
    atomic::write_with(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value)
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
            .map_err(|error| explain("write", path, error))
    })
}

/// Returns `value` as a JSON value.
///
/// # Errors
/// Fails for a NaN or an infinity anywhere in `value`.
pub fn value<T: Serialize + ?Sized>(value: &T) -> Result<Value> {
    check(value)?;
    serde_json::to_value(value).map_err(|error| {
        Error::failed(format!("cannot be written as JSON: {error}")).caused_by(error)
    })
}

/// Reads a `T` from the JSON file at `path`.
///
/// # Errors
/// Fails for a file that cannot be read, is not JSON, or holds something else than a `T`: with
/// file, line, column, what was found and expected.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    refuse_special(path)?;
    let text = std::fs::read(path).map_err(|error| explain("read", path, error))?;
    // Some editors begin a file with a byte-order mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    serde_json::from_slice(text).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: serde_json::Error) -> Error {
    let what = match error.classify() {
        serde_json::error::Category::Data => "does not hold what it should",
        serde_json::error::Category::Eof => "ends too early",
        _ => "is not valid JSON",
    };
    let position = format!("{}:{}:{}", path.display(), error.line(), error.column());
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let plain = Error::failed(format!("`{}` {what}", path.display())).note("file", position);
    match text.split_once(", expected ") {
        Some((found, expected)) => plain.note("found", found).note("expected", expected),
        None => plain.note("found", text),
    }
    .caused_by(error)
}

/// Refuses a value with a number that is not finite, which serde_json would turn into `null`.
///
/// The numbers are looked up in the value's CBOR, which has the same shape as the JSON and keeps
/// every number; only where there is such a number, a tree of it, which takes twenty times the
/// memory, tells its key.
fn check<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    let mut bytes = Vec::new();
    // What cannot be serialised at all is reported when the JSON is made.
    if ciborium::into_writer(value, &mut bytes).is_err() || all_finite(&bytes) {
        return Ok(());
    }
    let fault = Tree::serialized(value).ok().and_then(|tree| fault(&tree));
    let Some((key, number)) = fault else {
        return Ok(());
    };
    let key = key.trim_start_matches('.');
    Err(Error::failed(format!(
        "cannot write `{key}` as JSON: it is {number}, and JSON has no such number"
    )))
}

/// Returns true if all numbers of a CBOR document are finite.
fn all_finite(document: &[u8]) -> bool {
    let mut decoder = Decoder::from(document);
    let mut skipped = [0; 256];
    // It ends with an error at the end of the bytes.
    while let Ok(header) = decoder.pull() {
        match header {
            Header::Float(number) if !number.is_finite() => return false,
            Header::Text(length) => {
                let mut segments = decoder.text(length);
                while let Ok(Some(mut segment)) = segments.pull() {
                    while let Ok(Some(_)) = segment.pull(&mut skipped) {}
                }
            }
            Header::Bytes(length) => {
                let mut segments = decoder.bytes(length);
                while let Ok(Some(mut segment)) = segments.pull() {
                    while let Ok(Some(_)) = segment.pull(&mut skipped) {}
                }
            }
            _ => {}
        }
    }
    true
}

/// Returns the key of the first number that is not finite (`.epochs[3].loss`), and the number.
fn fault(tree: &Tree) -> Option<(String, f64)> {
    let within = |step: String, inner: &Tree| {
        fault(inner).map(|(rest, number)| (format!("{step}{rest}"), number))
    };
    match tree {
        Tree::Float(number) => (!number.is_finite()).then(|| (String::new(), *number)),
        Tree::Array(items) => (0..)
            .zip(items)
            .find_map(|(index, item): (usize, _)| within(format!("[{index}]"), item)),
        Tree::Map(entries) => entries
            .iter()
            .find_map(|(key, inner)| within(format!(".{}", name(key)), inner)),
        _ => None,
    }
}

/// Returns a map's key as JSON writes it.
fn name(key: &Tree) -> String {
    match key {
        Tree::Text(text) => text.clone(),
        Tree::Integer(number) => i128::from(*number).to_string(),
        Tree::Bool(truth) => truth.to_string(),
        _ => "?".into(),
    }
}

/// Returns every leaf of a document by its dotted key, in the document's order. An array and an
/// empty object within it are leaves.
pub fn leaves(document: &Value) -> Vec<(String, &Value)> {
    let mut leaves = Vec::new();
    descend(String::new(), document, &mut leaves);
    leaves
}

/// Returns the value at a dotted key; `null` where the document has none.
pub fn at<'a>(document: &'a Value, key: &str) -> &'a Value {
    key.split('.').fold(document, |value, name| &value[name])
}

fn descend<'a>(key: String, value: &'a Value, leaves: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(map) if key.is_empty() || !map.is_empty() => {
            for (name, inner) in map {
                let key = match key.is_empty() {
                    true => name.clone(),
                    false => format!("{key}.{name}"),
                };
                descend(key, inner, leaves);
            }
        }
        _ => leaves.push((key, value)),
    }
}

/// Holds a dotted key with its value in the old document and in the new one; `None` where it is
/// missing.
pub type Difference<'a> = (String, Option<&'a Value>, Option<&'a Value>);

/// Returns the leaves in which two documents differ: first those of `old` in its order, then those
/// that only `new` has.
pub fn differences<'a>(old: &'a Value, new: &'a Value) -> Vec<Difference<'a>> {
    let mut new: IndexMap<String, &Value> = leaves(new).into_iter().collect();
    let mut both: Vec<Difference> = leaves(old)
        .into_iter()
        .map(|(key, value)| {
            let other = new.shift_remove(&key);
            (key, Some(value), other)
        })
        .collect();
    both.extend(new.into_iter().map(|(key, value)| (key, None, Some(value))));
    both.retain(|(_, old, new)| old != new);
    both
}
