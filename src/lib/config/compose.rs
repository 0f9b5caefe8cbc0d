//! Composition from end to end: overrides, defaults tree, merge, references, unknown keys, types, checks.

use super::choices::{self, Action, GroupOverride};
use super::composed::{Composed, set_by};
use super::grammar::Parsed;
use super::issue::{self, Issue};
use super::node::{Node, Origin, Value};
use super::overrides::{Override, Sign};
use super::schema::Config;
use super::suggest::{list, nearest};
use super::tree::Tree;
use super::{check, extract, interpolate, known, yaml};
use crate::error::{During, Error, Result};
use std::path::PathBuf;

/// Where the config tree is and what to change in it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Overrides as typed, in order.
    pub overrides: Vec<String>,
    /// Folder of the config tree; `None`: `./config`, else the built-in tree.
    pub config_dir: Option<PathBuf>,
    /// Primary file, with or without `.yaml`; `None`: `config`.
    pub config_name: Option<String>,
}

/// Composes one configuration.
///
/// # Errors
/// Usage errors for everything the user can get wrong, naming file and line or argument.
pub fn compose(request: &Request) -> Result<Composed> {
    let place = Place::find(request)?;
    let overrides = place.parse(&request.overrides)?;
    refuse_sweep(&overrides)?;
    compose_one(&place, overrides, request.overrides.clone())
}

/// Composes every job of a sweep, the last override varying fastest; without `multirun`, the one job.
///
/// # Errors
/// As [`compose`], for the first job that cannot be composed; several values without `multirun`.
pub fn compose_all(request: &Request, multirun: bool) -> Result<Vec<Composed>> {
    /// More jobs than this are a slip of the keyboard.
    const MOST: usize = 100_000;
    let place = Place::find(request)?;
    let overrides = place.parse(&request.overrides)?;
    if !multirun {
        refuse_sweep(&overrides)?;
    }
    let choices: Vec<Vec<String>> = overrides.iter().map(Override::expanded).collect();
    let count = choices
        .iter()
        .try_fold(1_usize, |count, values| count.checked_mul(values.len()));
    let Some(count) = count.filter(|count| *count <= MOST) else {
        return Err(Error::usage(format!("this sweep has more than {MOST} jobs")));
    };
    let job = |index: usize| {
        let arguments = combination(&choices, index);
        let overrides = place.parse(&arguments)?;
        compose_one(&place, overrides, arguments.clone())
    };
    let label = |index: usize| {
        format!(
            "composing job {} of {count}: {}",
            index + 1,
            combination(&choices, index).join(" ")
        )
    };
    match count {
        1 => Ok(vec![job(0)?]),
        _ => (0..count).map(|index| job(index).during(|| label(index))).collect(),
    }
}

/// The `index`-th element of the Cartesian product, the last factor varying fastest.
fn combination(choices: &[Vec<String>], mut index: usize) -> Vec<String> {
    let mut picked = Vec::with_capacity(choices.len());
    for values in choices.iter().rev() {
        picked.extend(values.get(index % values.len().max(1)).cloned());
        index /= values.len().max(1);
    }
    picked.reverse();
    picked
}

fn refuse_sweep(overrides: &[Override]) -> Result<()> {
    let sweep = overrides.iter().find_map(|parsed| match &parsed.value {
        Some(Parsed::Many(values)) => Some((parsed, values)),
        _ => None,
    });
    let Some((parsed, values)) = sweep else {
        return Ok(());
    };
    let error = Error::usage(format!("`{}` is given {} values for one run", parsed.key, values.len()))
        .note("from", parsed.origin.to_string())
        .hint("to run a job for each value add --multirun (-m)");
    Err(if parsed.raw.contains('(') {
        error
    } else {
        error.hint(format!(
            "for a list type {0}=[{1}], for text with commas {0}=\"'{1}'\"",
            parsed.key, parsed.raw
        ))
    })
}

/// What all jobs of a sweep share.
struct Place {
    tree: Tree,
    primary: String,
    groups: Vec<String>,
}

impl Place {
    fn find(request: &Request) -> Result<Self> {
        let (tree, primary) = Tree::find(request.config_dir.as_deref(), request.config_name.as_deref())?;
        let groups = tree.groups();
        Ok(Self { tree, primary, groups })
    }

    fn parse(&self, arguments: &[String]) -> Result<Vec<Override>> {
        let parse = |argument: &String| match self.lonely_option(argument) {
            Some(error) => Err(error),
            None => Override::parse(argument),
        };
        arguments.iter().map(parse).collect()
    }

    /// The error for an option that is typed without its group.
    fn lonely_option(&self, argument: &str) -> Option<Error> {
        let has = |group: &&String| self.tree.options(group).iter().any(|option| option == argument);
        let group = self.groups.iter().find(has)?;
        Some(
            Error::usage(format!(
                "`{argument}` is an option of `{group}`, typed without its group"
            ))
            .note("from", format!("command line `{argument}`"))
            .hint(format!("type `+{group}={argument}`")),
        )
    }
}

fn compose_one(place: &Place, overrides: Vec<Override>, arguments: Vec<String>) -> Result<Composed> {
    let (groups, keys) = separate(place, overrides)?;
    let expansion = choices::expand(&place.tree, &place.groups, &place.primary, &groups)?;
    let built_in = Node::built_in(&Config::default())?;
    let reference = Node::built_in(&Config::reference())?;
    let mut root = built_in.clone();
    for part in &expansion.parts {
        root.merge(part.content.body.clone().placed_at(&part.content.package))?;
    }
    for key in &keys {
        apply(key, &mut root, &built_in)?;
    }
    let mut issues = Vec::new();
    known::take_unknown(&mut root, &reference, &place.groups, &mut issues);
    for path in interpolate::resolve(&mut root, &mut issues) {
        put_back(&mut root, &built_in, &path);
    }
    take_mandatory(&mut root, &built_in, &mut issues);
    let (config, figment) = extract::extract(root, &reference, &mut issues)?;
    if issues.is_empty() {
        issues = check::check(&config, &|key| set_by(&figment, key))?;
    }
    issue::report(issues)?;
    Ok(Composed::new(config, figment, expansion, arguments))
}

/// Group overrides and key overrides: a name of a group without a mapping behind it is the former.
fn separate(place: &Place, overrides: Vec<Override>) -> Result<(Vec<GroupOverride>, Vec<Override>)> {
    let mut groups: Vec<GroupOverride> = Vec::new();
    let mut keys = Vec::new();
    for parsed in overrides {
        let mapping = matches!(&parsed.value, Some(Parsed::One(node)) if node.as_map().is_some());
        if !place.groups.contains(&parsed.key) || mapping {
            if parsed.key.contains('/') {
                return Err(no_group(place, &parsed));
            }
            keys.push(parsed);
            continue;
        }
        let group = group_override(&parsed)?;
        if let Some(other) = groups
            .iter()
            .find(|other| other.group == group.group && other.origin != group.origin)
        {
            return Err(Error::usage(format!("`{}` is given twice", group.group))
                .note("from", other.origin.to_string())
                .note("from", group.origin.to_string()));
        }
        groups.push(group);
    }
    Ok((groups, keys))
}

fn no_group(place: &Place, parsed: &Override) -> Error {
    let error = Error::usage(format!("there is no config group `{}`", parsed.key))
        .note("from", parsed.origin.to_string())
        .note("available", list(&place.groups));
    let last = parsed.key.rsplit('/').next().unwrap_or_default();
    match nearest(last, &place.groups) {
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None => error,
    }
}

fn group_override(parsed: &Override) -> Result<GroupOverride> {
    let option = match &parsed.value {
        None => None,
        Some(Parsed::One(node)) => match &node.value {
            Value::Null => None,
            Value::Text(text) if text.is_empty() => {
                return Err(Error::usage(format!("`{}` is given no option", parsed.key))
                    .note("from", parsed.origin.to_string()));
            }
            Value::Text(text) => Some(text.clone()),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => Some(parsed.raw.clone()),
            value => {
                return Err(
                    Error::usage(format!("`{}` takes one option, not {}", parsed.key, value.described()))
                        .note("from", parsed.origin.to_string()),
                );
            }
        },
        Some(Parsed::Many(_)) => return Err(Error::usage(format!("`{}` takes one option", parsed.key))),
    };
    let action = match parsed.sign {
        Sign::Set | Sign::Force => Action::Replace(option),
        Sign::Add => Action::Add(option),
        Sign::Delete => Action::Delete(option),
    };
    Ok(GroupOverride {
        group: parsed.key.clone(),
        origin: parsed.origin.clone(),
        action,
    })
}

/// Applies a key override to the merged tree. Unknown keys are found later, all together.
fn apply(parsed: &Override, root: &mut Node, built_in: &Node) -> Result<()> {
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
        return Err(
            Error::usage(format!("`{}` is already set, so it cannot be added", parsed.key))
                .note("from", parsed.origin.to_string())
                .note("set by", by.to_string())
                .hint(format!(
                    "to change it type it without the plus: {}={}",
                    parsed.key, parsed.raw
                )),
        );
    }
    match value {
        Some(node) => root.merge(node.clone().placed_at(&path)),
        None => Ok(()),
    }
}

/// The first place other than the built-in defaults that set something at or below a node.
fn user_origin(node: &Node) -> Option<Origin> {
    match node.as_map() {
        Some(map) => map.values().find_map(user_origin),
        None => (node.origin != Origin::BuiltIn).then(|| node.origin.clone()),
    }
}

/// `~a`: the schema has every key, so what is deleted is what files and arguments said; the built-in default comes back.
fn delete(parsed: &Override, expected: Option<&Node>, root: &mut Node, built_in: &Node) -> Result<()> {
    let path = parsed.path();
    let Some(present) = root.get(&path) else {
        let mut keys = Vec::new();
        root.leaves(&mut |path, _| keys.push(path.join(".")));
        let error =
            Error::usage(format!("there is no key `{}` to delete", parsed.key)).note("from", parsed.origin.to_string());
        return Err(match nearest(&parsed.key, &keys) {
            Some(key) => error.hint(format!("did you mean `~{key}`?")),
            None => error,
        });
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
    put_back(root, built_in, &path);
    Ok(())
}

/// Equal values, whoever set them; `1` equals `1.0`.
fn same(a: &Value, b: &Value) -> bool {
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

/// Gives a key its built-in default again; one that has none goes.
fn put_back(root: &mut Node, built_in: &Node, path: &[String]) {
    match (built_in.get(path), root.get_mut(path)) {
        (Some(default), Some(node)) => *node = default.clone(),
        _ => {
            root.remove(path);
        }
    }
}

/// Reports every `???`, a value the user must give.
fn take_mandatory(root: &mut Node, built_in: &Node, issues: &mut Vec<Issue>) {
    let mut missing = Vec::new();
    root.leaves(&mut |path, node| {
        if node.as_text() == Some("???") {
            let key = path.join(".");
            let issue = Issue::new(format!("`{key}` must be given"))
                .note("from", node.origin.to_string())
                .hint(Some(format!("type {key}=VALUE")));
            issues.push(issue);
            missing.push(path.to_vec());
        }
    });
    for path in missing {
        put_back(root, built_in, &path);
    }
}
