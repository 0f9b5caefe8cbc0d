//! Reads YAML files into [`Node`]s that know their line, and writes nodes as YAML that reads back
//! as the same values.
//!
//! Anchors, tags, several documents in a file and duplicate keys are errors.

use super::node::{Node, Origin, Value};
use super::scalar;
use crate::error::{Error, Result};
use indexmap::IndexMap;
use marked_yaml::{LoadError, LoaderOptions, Marker, Node as Marked, Span};
use std::fmt::Write;
use std::sync::Arc;

/// Reads a config file; an empty one is an empty mapping. `file` names it in messages.
///
/// # Errors
/// Fails at broken YAML, more than one document, and nesting that is too deep.
pub fn read(text: &str, file: &Arc<str>) -> Result<Node> {
    refuse_second_document(text, file)?;
    refuse_deep(text, file)?;
    let options = LoaderOptions::default()
        .error_on_duplicate_keys(true)
        .prevent_coercion(true);
    let marked = marked_yaml::parse_yaml_with_options(0, text, options)
        .map_err(|error| broken(&error, file))?;
    Ok(from_marked(&marked, file))
}

/// Refuses a second document: the parser would read the first one and drop the others.
fn refuse_second_document(text: &str, file: &Arc<str>) -> Result<()> {
    let mut content = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("---") && content {
            return Err(Error::usage(
                "a config file holds one YAML document, and here a second one begins",
            )
            .note("file", format!("{file}:{}", index + 1)));
        }
        // Directives such as `%YAML 1.2` stand before the first document.
        let is_directive = line.starts_with('%');
        content |= !line.trim().is_empty() && !line.trim_start().starts_with('#') && !is_directive;
    }
    Ok(())
}

/// Number of levels that a file may be nested; the parser works by recursion, and a long row of
/// brackets would exhaust the stack.
const DEEPEST: usize = 64;

/// Refuses nesting beyond [`DEEPEST`], as far as it can be told before the text is parsed: by
/// indentation, dashes and brackets.
fn refuse_deep(text: &str, file: &Arc<str>) -> Result<()> {
    let (mut indents, mut open) = (Vec::new(), 0_usize);
    for (index, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default();
        let body = line.trim_start();
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        let indent = line.len() - body.len();
        while indents.last().is_some_and(|&last| last >= indent) {
            indents.pop();
        }
        indents.push(indent);
        let marks = body
            .split(' ')
            .take_while(|word| ["-", "?", ""].contains(word))
            .count();
        for letter in body.chars() {
            match letter {
                '[' | '{' => open += 1,
                ']' | '}' => open = open.saturating_sub(1),
                _ => {}
            }
            if indents.len() + marks + open > DEEPEST {
                return Err(Error::usage(format!(
                    "a config file is nested more than {DEEPEST} levels deep"
                ))
                .note("file", format!("{file}:{}", index + 1)));
            }
        }
    }
    Ok(())
}

fn line(marker: Option<&Marker>) -> usize {
    marker.map_or(1, Marker::line)
}

fn start(span: &Span) -> usize {
    line(span.start())
}

fn broken(error: &LoadError, file: &Arc<str>) -> Error {
    let (what, marker) = match error {
        LoadError::DuplicateKey(pair) => {
            let (first, again) = (start(pair.prev_key.span()), start(pair.key.span()));
            return Error::usage(format!(
                "key `{}` stands twice in one mapping",
                pair.key.as_str()
            ))
            .note("file", format!("{file}:{again}"))
            .note("first", format!("{file}:{first}"));
        }
        LoadError::TopLevelMustBeMapping(at) => (
            "a config file must be a mapping of `key: value` lines".into(),
            at,
        ),
        LoadError::TopLevelMustBeSequence(at) => ("a list was expected".into(), at),
        LoadError::UnexpectedAnchor(at) => (
            "YAML anchors (`&name`) are not supported; refer to a key with `${key}`".into(),
            at,
        ),
        LoadError::UnexpectedTag(at) => ("YAML tags (`!name`) are not supported".into(), at),
        LoadError::MappingKeyMustBeScalar(at) => ("a key must be a plain word".into(), at),
        LoadError::ScanError(at, scan) => (format!("broken YAML: {}", scan.info()), at),
    };
    let error = Error::usage(what).note(
        "file",
        format!("{file}:{}:{}", marker.line(), marker.column()),
    );
    match marker.line() {
        // A tab or a lost colon is often noticed only on the line after.
        0 | 1 => error,
        _ => error.hint("the mistake may also be at the end of the line before"),
    }
}

fn from_marked(marked: &Marked, file: &Arc<str>) -> Node {
    let origin = |span: &Span| Origin::File {
        file: file.clone(),
        line: start(span),
    };
    match marked {
        Marked::Scalar(word) => {
            // `may_coerce` is false for a word in quotes.
            let value = match (word.may_coerce(), word.as_str()) {
                (true, "") => Value::Null,
                (true, text) => scalar::read(text),
                (false, text) => Value::Text(text.to_owned()),
            };
            Node::new(value, &origin(word.span()))
        }
        Marked::Sequence(items) => {
            let list = items.iter().map(|item| from_marked(item, file)).collect();
            Node::new(Value::List(list), &origin(items.span()))
        }
        Marked::Mapping(fields) => {
            let mut map = IndexMap::new();
            for (key, value) in fields.iter() {
                let mut node = from_marked(value, file);
                // A value is set where its key stands, also when it begins on the next line.
                node.origin = origin(key.span());
                map.insert(key.as_str().to_owned(), node);
            }
            Node::new(Value::Map(map), &origin(fields.span()))
        }
    }
}

/// Writes block YAML, a key a line, lists inline. `comment` may add ` # …` behind a key's value.
pub fn write(node: &Node, comment: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    write_map(node, &mut Vec::new(), comment, &mut out);
    out
}

fn write_map(
    node: &Node,
    path: &mut Vec<String>,
    comment: &dyn Fn(&str) -> Option<String>,
    out: &mut String,
) {
    /// Comments begin in this column, or two blanks behind a longer line.
    const COLUMN: usize = 44;
    for (key, child) in node.as_map().into_iter().flatten() {
        let head = format!("{:indent$}{}:", "", word(key), indent = 2 * path.len());
        path.push(key.clone());
        if child.as_map().is_some_and(|map| !map.is_empty()) {
            let _ = writeln!(out, "{head}");
            write_map(child, path, comment, out);
        } else {
            let line = format!("{head} {}", one_line(&child.value, &plain_number));
            let _ = match comment(&path.join(".")) {
                Some(text) => writeln!(out, "{line:COLUMN$}  # {text}"),
                None => writeln!(out, "{line}"),
            };
        }
        path.pop();
    }
}

/// Writes a value on one line, as people write it.
pub fn inline(value: &Value) -> String {
    one_line(value, &|number| format!("{number:?}"))
}

/// Writes a number so that YAML 1.1 reads one: with a point, and a sign in the exponent.
fn plain_number(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let point = if digits.contains('.') { "" } else { ".0" };
            let (sign, power) = match exponent.strip_prefix('-') {
                Some(power) => ('-', power),
                None => ('+', exponent),
            };
            format!("{digits}{point}e{sign}{power:0>2}")
        }
    }
}

/// Writes a value on one line, as YAML that reads back as the same value; `number` writes numbers.
fn one_line(value: &Value, number: &dyn Fn(f64) -> String) -> String {
    let inline = |value: &Value| one_line(value, number);
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(whole) => whole.to_string(),
        Value::Float(float) => number(*float),
        Value::Text(text) | Value::Environment(text) => word(text),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| inline(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let fields: Vec<_> = map
                .iter()
                .map(|(k, v)| format!("{}: {}", word(k), inline(&v.value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// Returns true for text that YAML 1.1 takes for a truth value, a date, or a number.
fn is_typed_elsewhere(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let numeral = |c: char| c.is_ascii_hexdigit() || "_.-xo".contains(c);
    ["y", "yes", "n", "no", "on", "off"].contains(&lower.as_str())
        || lower.starts_with(|c: char| c.is_ascii_digit()) && lower.chars().all(numeral)
}

/// Writes text, quoted where it would otherwise read as something else.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./+ -".contains(c);
    let safe = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "_./".contains(c))
        && text.chars().all(plain)
        && !text.ends_with(' ')
        && !text.starts_with("...");
    if safe && matches!(scalar::read(text), Value::Text(_)) && !is_typed_elsewhere(text) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ if c.is_alphanumeric() => quoted.push(c),
            _ => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}
