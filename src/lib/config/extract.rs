//! From the merged tree to the typed [`Config`]: one figment provider a place, so that every value
//! carries who set it.
//!
//! serde stops at the first wrong type. Here a wrong value is noted, replaced by its default, and
//! the extraction repeated, so that all are found. What figment takes without complaint but not as
//! written (a number for an enum's name, surplus list items) is found by reading back.

use super::check;
use super::issue::Issue;
use super::node::{Node, Value};
use super::range::broken;
use super::schema::Config;
use super::suggest::{list, nearest};
use super::{scalar, yaml};
use crate::error::{Error, Result};
use figment::error::Kind;
use figment::value::{Dict, Empty, Map, Tag, Value as Figurine};
use figment::{Figment, Metadata, Profile, Provider};
use std::collections::BTreeMap;

/// Extracts the config. Wrong values are reported as `issues` and replaced by `fallback`'s, which
/// holds every key.
///
/// # Errors
/// Only when the config cannot be read for a reason that no single value explains.
pub fn extract(
    mut root: Node,
    fallback: &Node,
    issues: &mut Vec<Issue>,
) -> Result<(Config, Figment)> {
    // Every round mends one value, at most twice each.
    let mut rounds = 0;
    root.leaves(&mut |_, _| rounds += 2);
    for _ in 0..=rounds {
        let figment = figment(&root);
        let (path, problem) = match figment.extract::<Config>() {
            Ok(config) => match misread(&root, &Node::built_in(&config)?) {
                Some(found) => found,
                None => return Ok((config, figment)),
            },
            Err(error) => (error.path.clone(), Problem::from(error)),
        };
        mend(&mut root, fallback, &path, problem, issues)?;
    }
    Err(Error::usage("the configuration cannot be read"))
}

/// What is wrong with a value.
enum Problem {
    /// What it must be instead.
    Must(String),
    /// It is not one of these names.
    Not(Vec<String>),
    /// Names are expected, and it is no text at all.
    Nameless,
    Other(String),
}

impl From<figment::Error> for Problem {
    fn from(error: figment::Error) -> Self {
        match error.kind {
            Kind::InvalidType(_, expected) if expected.starts_with("enum") => Self::Nameless,
            Kind::InvalidType(_, expected)
            | Kind::InvalidValue(_, expected)
            | Kind::InvalidLength(_, expected) => Self::Must(in_words(&expected)),
            Kind::UnknownVariant(_, names) => {
                Self::Not(names.iter().map(|name| (*name).to_owned()).collect())
            }
            other => Self::Other(other.to_string()),
        }
    }
}

const WHOLE: &str = "a whole number";

/// serde's names of types in the words of the user.
fn in_words(expected: &str) -> String {
    match expected {
        "f32" | "f64" => "a number".into(),
        "u8" | "u16" | "u32" | "u64" | "usize" => format!("{WHOLE}, 0 or more"),
        "i8" | "i16" | "i32" | "i64" | "isize" => WHOLE.into(),
        "a boolean" => "true or false".into(),
        "a string" | "path string" => "a string".into(),
        "a sequence" => "a list".into(),
        other if other.starts_with("struct ") => "a mapping of keys".into(),
        other => match other.strip_prefix("an array of length ") {
            Some(length) => format!("a list of {length} values"),
            None => other.into(),
        },
    }
}

/// Reports a wrong value and puts its default in place; or reads it in another way that is tried
/// next.
fn mend(
    root: &mut Node,
    fallback: &Node,
    path: &[String],
    problem: Problem,
    issues: &mut Vec<Issue>,
) -> Result<()> {
    // The path may end inside a list, which is replaced as a whole, or in a mapping where a name
    // belongs.
    let both = |depth: &usize| {
        [&*root, fallback]
            .iter()
            .all(|tree| tree.get(&path[..*depth]).is_some())
    };
    let depth = (0..=path.len()).rev().find(both).unwrap_or(0);
    let (whole, index) = path.split_at(depth);
    let problem = match root.get(whole).map(|node| &node.value) {
        Some(Value::Map(_)) if !index.is_empty() => Problem::Nameless,
        _ => problem,
    };
    if whole.is_empty() {
        return Err(Error::usage("the configuration cannot be read"));
    }
    let index = if matches!(problem, Problem::Nameless) {
        &[]
    } else {
        index
    };
    let name = index
        .iter()
        .fold(whole.join("."), |name, index| format!("{name}[{index}]"));
    let Some(node) = root.get_mut(whole) else {
        return Err(Error::usage(format!("`{name}` cannot be read")));
    };
    if let (Value::Environment(text), Problem::Must(_)) = (&node.value, &problem) {
        // The variable's text as the number or truth value it spells.
        let typed = scalar::read(text.trim());
        if !matches!(typed, Value::Text(_)) {
            node.value = typed;
            return Ok(());
        }
    }
    let problem = match problem {
        Problem::Nameless => names(node.clone(), root, whole),
        problem => problem,
    };
    let Some(node) = root.get_mut(whole) else {
        return Ok(());
    };
    issues.push(describe(
        &name,
        item(node, index),
        node,
        fallback.get(whole),
        problem,
    ));
    match fallback.get(whole) {
        Some(default) => *node = default.clone(),
        None => {
            root.remove(whole);
        }
    }
    Ok(())
}

/// The names allowed at a path, from the complaint about a name that is none.
fn names(mut node: Node, root: &Node, path: &[String]) -> Problem {
    let mut probe = root.clone();
    node.value = Value::Text(String::new());
    if let Some(place) = probe.get_mut(path) {
        *place = node;
    }
    match figment(&probe).extract::<Config>().map_err(Problem::from) {
        Err(Problem::Not(names)) => Problem::Not(names),
        _ => Problem::Nameless,
    }
}

fn item<'a>(node: &'a Node, index: &[String]) -> &'a Node {
    match (&node.value, index) {
        (Value::List(items), [first, rest @ ..]) => {
            let found = first.parse().ok().and_then(|i: usize| items.get(i));
            found.map_or(node, |node| item(node, rest))
        }
        _ => node,
    }
}

fn describe(
    name: &str,
    found: &Node,
    node: &Node,
    default: Option<&Node>,
    problem: Problem,
) -> Issue {
    let value = found.value.described();
    let set_by = node.origin.to_string();
    match problem {
        Problem::Must(words) => {
            let range = check::range(name.split('[').next().unwrap_or(name))
                .filter(|_| words.starts_with(WHOLE));
            // Said as of any other number out of range, be it one that the type can hold or not.
            if let Some(what) = range.and_then(|range| broken(range, name, &found.value)) {
                return Issue::new(what).note("set by", set_by);
            }
            let words = range.map_or(words, |range| format!("{WHOLE}, {}", range.words));
            let issue = Issue::new(format!("`{name}` must be {words}, found {value}"))
                .note("set by", set_by);
            match (words.as_str(), default.and_then(Node::as_map)) {
                (_, Some(keys)) => {
                    let issue = issue.note("available", list(&keys.keys().collect::<Vec<_>>()));
                    // A bare name most often says which kind.
                    match found.as_text().filter(|_| keys.contains_key("kind")) {
                        Some(kind) => {
                            issue.hint(Some(format!("did you mean `{name}.kind={kind}`?")))
                        }
                        None => issue,
                    }
                }
                ("a list", _) => issue.hint(Some(format!(
                    "for a list type {name}=[{}]",
                    yaml::inline(&found.value)
                ))),
                ("a string", _) => issue.hint(Some(format!(
                    "put it in quotes: {name}=\"'{}'\"",
                    yaml::inline(&found.value)
                ))),
                _ => issue,
            }
        }
        Problem::Not(names) => {
            let hint = found.as_text().and_then(|word| nearest(word, &names));
            Issue::new(format!(
                "`{name}` must be one of the available names, found {value}"
            ))
            .note("set by", set_by)
            .note("available", list(&names))
            .hint(hint.map(|name| format!("did you mean `{name}`?")))
        }
        Problem::Nameless => {
            Issue::new(format!("`{name}` must be a name, found {value}")).note("set by", set_by)
        }
        Problem::Other(text) => {
            Issue::new(format!("`{name}` cannot be read: {text}")).note("set by", set_by)
        }
    }
}

/// The first value that the types took for something else than what is written.
fn misread(written: &Node, read: &Node) -> Option<(Vec<String>, Problem)> {
    let mut found = None;
    written.leaves(&mut |path, node| {
        if found.is_none()
            && let Some(read) = read.get(path)
        {
            let mut path = path.to_vec();
            found = difference(&node.value, &read.value, &mut path).map(|problem| (path, problem));
        }
    });
    found
}

/// How a value differs from what was read; `path` is led on to the list item that does.
fn difference(written: &Value, read: &Value, path: &mut Vec<String>) -> Option<Problem> {
    match (written, read) {
        // JSON, the way back, has no such number: no setting has a use for one.
        (Value::Float(number), _) if !number.is_finite() => {
            Some(Problem::Must("a finite number".into()))
        }
        (Value::Text(_) | Value::Environment(_), Value::Text(_)) => None,
        // A name was wanted; figment takes a number as its position.
        (_, Value::Text(_)) => Some(Problem::Nameless),
        (Value::List(all), Value::List(taken)) if all.len() != taken.len() => {
            Some(Problem::Must(format!("a list of {} values", taken.len())))
        }
        (Value::List(all), Value::List(taken)) => {
            all.iter()
                .zip(taken)
                .enumerate()
                .find_map(|(i, (all, taken))| {
                    path.push(i.to_string());
                    let problem = difference(&all.value, &taken.value, path);
                    if problem.is_none() {
                        path.pop();
                    }
                    problem
                })
        }
        _ => None,
    }
}

/// All values set by one place.
struct Layer {
    origin: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> std::result::Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// One provider a place; no two hold the same key, so their order does not matter.
fn figment(root: &Node) -> Figment {
    let mut layers: BTreeMap<String, Dict> = BTreeMap::new();
    root.leaves(&mut |path, node| {
        let values = layers.entry(node.origin.to_string()).or_default();
        insert(values, path, figurine(&node.value));
    });
    layers
        .into_iter()
        .fold(Figment::new(), |figment, (origin, values)| {
            figment.merge(Layer { origin, values })
        })
}

fn insert(values: &mut Dict, path: &[String], value: Figurine) {
    match path {
        [] => {}
        [key] => {
            values.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let below = values
                .entry(key.clone())
                .or_insert_with(|| Dict::new().into());
            if let Figurine::Dict(_, below) = below {
                insert(below, rest, value);
            }
        }
    }
}

fn figurine(value: &Value) -> Figurine {
    match value {
        Value::Null => Figurine::Empty(Tag::Default, Empty::None),
        Value::Bool(flag) => Figurine::from(*flag),
        Value::Int(whole) => match (i64::try_from(*whole), u64::try_from(*whole)) {
            (Ok(whole), _) => Figurine::from(whole),
            (_, Ok(whole)) => Figurine::from(whole),
            // Too long for any whole number of the schema; as a number it may still fit.
            _ => Figurine::from(*whole as f64),
        },
        Value::Float(number) => Figurine::from(*number),
        Value::Text(text) | Value::Environment(text) => Figurine::from(text.as_str()),
        Value::List(items) => Figurine::from(
            items
                .iter()
                .map(|item| figurine(&item.value))
                .collect::<Vec<_>>(),
        ),
        Value::Map(map) => map
            .iter()
            .map(|(k, v)| (k.clone(), figurine(&v.value)))
            .collect::<Dict>()
            .into(),
    }
}
