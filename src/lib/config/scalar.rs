//! Reads unquoted words, in YAML files and in overrides alike, as null, truth value, whole number,
//! number or text.
//!
//! YAML's own rules differ between its versions and lack two spellings people write every day: here
//! `1e-3` is a number and `1_000` whole.

use super::node::Value;

/// Reads an unquoted word.
pub fn read(word: &str) -> Value {
    if matches!(word, "null" | "Null" | "NULL" | "~") {
        Value::Null
    } else if word.eq_ignore_ascii_case("true") {
        Value::Bool(true)
    } else if word.eq_ignore_ascii_case("false") {
        Value::Bool(false)
    } else if let Some(whole) = whole(word) {
        Value::Int(whole)
    } else if let Some(number) = number(word) {
        Value::Float(number)
    } else {
        Value::Text(word.to_owned())
    }
}

/// Reads a whole number: digits with single underscores between them, no leading zero (`007` is a
/// name).
fn whole(word: &str) -> Option<i128> {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    if !grouped_digits(digits) || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    word.replace('_', "").parse().ok()
}

/// Reads a number with a point or an exponent, or one of `inf`, `nan` (also with YAML's leading
/// point), in any case.
fn number(word: &str) -> Option<f64> {
    let (sign, rest) = match word.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, word.strip_prefix('+').unwrap_or(word)),
    };
    match rest.to_ascii_lowercase().as_str() {
        "inf" | ".inf" => return Some(sign * f64::INFINITY),
        "nan" | ".nan" => return Some(f64::NAN),
        _ => {}
    }
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = (before.is_empty() || grouped_digits(before))
        && (after.is_empty() || grouped_digits(after));
    let some = !before.is_empty() || !after.is_empty();
    let power = exponent.is_none_or(|text| {
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    });
    let marked = mantissa.contains('.') || exponent.is_some();
    // A whole number too long for 128 bits is still a number.
    let long = before.len() > 38 && after.is_empty() && !before.starts_with('0');
    if digits && some && power && (marked || long) {
        word.replace('_', "").parse().ok()
    } else {
        None
    }
}

fn grouped_digits(text: &str) -> bool {
    text.split('_')
        .all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()))
}
