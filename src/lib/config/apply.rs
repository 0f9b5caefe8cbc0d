//! Key overrides (`a.b=v`, `+a=v`, `++a=v`, `~a`) on the merged tree.

use super::grammar::Parsed;
use super::node::{Node, Origin, Value};
use super::overrides::{Override, Sign};
use super::suggest::{did_you_mean, nearest};
use super::{shape, yaml};
use crate::error::{Error, Result};

/// Applies a key override to the merged tree. Unknown keys are found later, all together.
///
/// # Errors
/// Fails when `+` names a key that is set, and when `~` names none or another value.
pub fn apply(parsed: &Override, root: &mut Node, built_in: &Node) -> Result<()> {
    let path = parsed.path();
    let present = root.get(&path);
    let value = match &parsed.value {
        Some(Parsed::One(node)) => Some(node),
        _ => None,
    };
    if parsed.sign == Sign::Delete {
        return delete(parsed, value, root, built_in);
    }
    if let (Sign::Add, Some(node)) = (parsed.sign, present)
        && let Some(by) = user_origin(node)
    {
        return Err(Error::usage(format!(
            "`{}` is already set, so it cannot be added",
            parsed.key
        ))
        .note("from", parsed.origin.to_string())
        .note("set by", by.to_string())
        .hint(format!(
            "to change it type it without the plus: {}={}",
            parsed.key, parsed.raw
        )));
    }
    let Some(node) = value else {
        return Ok(());
    };
    refuse_part_of_none(parsed, &path, node, root)?;
    root.merge(node.clone().placed_at(&path))
}

/// Refuses a key of the generator where there is none: it would turn inversion, or drawn pictures,
/// into a generator of default settings. Keys that no generator has are reported as such.
fn refuse_part_of_none(parsed: &Override, path: &[String], node: &Node, root: &Node) -> Result<()> {
    let (group, below) = match path {
        [group, below @ ..] if group == "generator" && !below.is_empty() => (group, below),
        _ => return Ok(()),
    };
    let is_none = |node: &Node| node.value == Value::Null;
    if !root.get(&[group]).is_some_and(is_none) || shape::config().get(path).is_none() {
        return Ok(());
    }
    let whole = node.clone().placed_at(below);
    Err(Error::usage(format!(
        "`{}` sets nothing: there is no `{group}`",
        parsed.key
    ))
    .note("from", parsed.origin.to_string())
    .hint(format!(
        "choose a method that has one (`+method=dense`), or make one with `{group}={}`",
        yaml::inline(&whole.value)
    )))
}

/// Returns the first origin other than the built-in defaults of a value at or below a node.
fn user_origin(node: &Node) -> Option<Origin> {
    match node.as_map() {
        Some(map) => map.values().find_map(user_origin),
        None => (node.origin != Origin::BuiltIn).then(|| node.origin.clone()),
    }
}

/// Applies `~a`: the schema has every key, so what is deleted is what files and arguments set, and
/// the built-in default is the value again.
fn delete(
    parsed: &Override,
    expected: Option<&Node>,
    root: &mut Node,
    built_in: &Node,
) -> Result<()> {
    let path = parsed.path();
    let Some(present) = root.get(&path) else {
        let mut keys = Vec::new();
        root.leaves(&mut |path, _| keys.push(path.join(".")));
        let error = Error::usage(format!("there is no key `{}` to delete", parsed.key))
            .note("from", parsed.origin.to_string());
        let meant = nearest(&parsed.key, &keys).map(|key| format!("~{key}"));
        return Err(did_you_mean(error, meant));
    };
    if let Some(expected) = expected
        && !same(&present.value, &expected.value)
    {
        let found = yaml::inline(&present.value);
        return Err(Error::usage(format!(
            "`{}` is {found}, not {}, and is not deleted",
            parsed.key, parsed.raw
        ))
        .note("from", parsed.origin.to_string())
        .note("set by", present.origin.to_string())
        .hint(format!("to delete any value of it type ~{}", parsed.key)));
    }
    restore_default(root, built_in, &path);
    Ok(())
}

/// Compares values, whoever set them; `1` equals `1.0`.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.value, &b.value))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(&a.value, &b.value)))
        }
        (a, b) => a == b,
    }
}

/// Gives a key its built-in default again, and removes a key that has none.
pub fn restore_default(root: &mut Node, built_in: &Node, path: &[String]) {
    match (built_in.get(path), root.get_mut(path)) {
        (Some(default), Some(node)) => *node = default.clone(),
        _ => {
            root.remove(path);
        }
    }
}
