//! Parses an override's value: `0.1`, `[1, 2]`, `{lr: 0.1}`, `'a, b'`, `${a.b}`, and the sweeps
//! `1,2`, `range(0,3)`, `choice(a,b)`.
//!
//! Unquoted text runs to the next `,` (or closing bracket inside one) and loses the blanks around
//! it; `\` before one of `\,:=()[]{}` or a blank takes that character literally. In quotes `\`
//! escapes the quote, and itself before a quote alone, as in Hydra. `${…}` is taken whole, whatever
//! is inside.

mod parser;

use super::node::{Node, Origin, Value};
use super::scalar;
use parser::Parser;

/// Holds what an override's value was parsed to.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// Is one value.
    One(Node),
    /// Is a sweep: each value as it would be typed alone.
    Many(Vec<String>),
}

/// Says what is wrong with a value, to stand behind `cannot read …: `.
pub type Message = String;

/// Parses the text behind the first `=` of an override. `origin` goes to every node.
///
/// # Errors
/// Fails at text that the grammar does not have.
pub fn parse(text: &str, origin: &Origin) -> Result<Parsed, Message> {
    let mut parser = Parser::new(text, origin);
    parser.blanks();
    if parser.peek().is_none() {
        return Ok(Parsed::One(Node::new(Value::Text(String::new()), origin)));
    }
    if let Some((name, inside)) = function(text.trim()) {
        return call(name, inside, origin).map(Parsed::Many);
    }
    let mut elements = parser.elements()?;
    match (elements.len(), elements.pop()) {
        (1, Some((node, _))) => Ok(Parsed::One(node)),
        (_, Some(last)) => {
            elements.push(last);
            Ok(Parsed::Many(
                elements.into_iter().map(|(_, raw)| raw).collect(),
            ))
        }
        (_, None) => Err("it is empty".into()),
    }
}

/// Returns text in quotes that is parsed to `text`.
pub fn quoted(text: &str) -> String {
    let mut inside = String::new();
    let mut slashes = 0;
    // The closing quote is one more before which backslashes count twice.
    for c in text.chars().chain(['\'']) {
        match c {
            '\\' => slashes += 1,
            '\'' => {
                inside.push_str(&"\\".repeat(2 * std::mem::take(&mut slashes)));
                inside.push_str("\\'");
            }
            c => {
                inside.push_str(&"\\".repeat(std::mem::take(&mut slashes)));
                inside.push(c);
            }
        }
    }
    inside.truncate(inside.len() - "\\'".len());
    format!("'{inside}'")
}

/// Returns names as a list that is typed, `[cat,dog,'grey mouse']`: quotes stand around what would
/// be read otherwise.
pub fn typed_list(names: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let typed = |name: &String| {
        let reads_back = match scalar::read(name) {
            Value::Text(_) => true,
            Value::Int(whole) => whole.to_string() == *name,
            _ => false,
        };
        match reads_back && !name.is_empty() && name.chars().all(plain) {
            true => name.clone(),
            false => quoted(name),
        }
    };
    let typed: Vec<String> = names.iter().map(typed).collect();
    format!("[{}]", typed.join(","))
}

/// Splits `name(inside)`.
fn function(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('(')?;
    let word = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    word.then_some((name, rest.strip_suffix(')')?))
}

fn call(name: &str, inside: &str, origin: &Origin) -> Result<Vec<String>, Message> {
    let mut parser = Parser::new(inside, origin);
    let arguments = parser.elements()?;
    match name {
        "choice" => Ok(arguments.into_iter().map(|(_, raw)| raw).collect()),
        "range" => {
            let numbers: Option<Vec<_>> = arguments
                .iter()
                .map(|(node, _)| finite(&node.value))
                .collect();
            match numbers.as_deref() {
                Some([stop]) => range(0.0, *stop, 1.0),
                Some([start, stop]) => range(*start, *stop, 1.0),
                Some([start, stop, step]) => range(*start, *stop, *step),
                _ => Err(
                    "`range` takes numbers: range(start, stop) or range(start, stop, step)".into(),
                ),
            }
        }
        _ => Err(format!(
            "there is no function `{name}`; available are choice(a, b, …) and range(start, stop, \
             step)"
        )),
    }
}

fn finite(value: &Value) -> Option<f64> {
    match value {
        Value::Int(whole) => Some(*whole as f64),
        Value::Float(number) if number.is_finite() => Some(*number),
        _ => None,
    }
}

/// Returns the numbers from `start` up to but without `stop`, as Python's range does.
fn range(start: f64, stop: f64, step: f64) -> Result<Vec<String>, Message> {
    /// Number of values beyond which a range is a mistake.
    const MOST: f64 = 10_000.0;
    let count = ((stop - start) / step - 1e-9).ceil();
    if step == 0.0 || count.is_nan() {
        return Err("the step of `range` must not be 0".into());
    }
    if count < 1.0 {
        return Err("this `range` holds no value".into());
    }
    if count > MOST {
        return Err(format!(
            "this `range` holds {count} values, more than {MOST}"
        ));
    }
    // Twelve digits hide the rounding of `0.1 + 2·0.1`.
    let rounded = |number: f64| format!("{number:.12}").parse().unwrap_or(number);
    Ok((0..count as usize)
        .map(|i| start + i as f64 * step)
        .map(|number| format!("{}", rounded(number)))
        .collect())
}
