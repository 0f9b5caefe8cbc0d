//! Tells overrides that choose a group's option from those that set a key.

use super::choices::{Action, GroupOverride, Part};
use super::grammar::Parsed;
use super::known::HYDRA;
use super::node::{Node, Value};
use super::overrides::{Override, Sign};
use super::suggest::{did_you_mean, list, nearest};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Returns group overrides and key overrides: a name of a group without a mapping behind it is the
/// former.
///
/// # Errors
/// Fails at a group that does not exist or is given twice, and at a value that is no option.
pub fn separate(
    known: &[String],
    overrides: Vec<Override>,
) -> Result<(Vec<GroupOverride>, Vec<Override>)> {
    let mut groups: Vec<GroupOverride> = Vec::new();
    let mut keys = Vec::new();
    for parsed in overrides {
        let mapping = matches!(&parsed.value, Some(Parsed::One(node)) if node.as_map().is_some());
        if !known.contains(&parsed.key) || mapping {
            if parsed.key.contains('/') {
                return Err(no_group(known, &parsed));
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
        refuse_undone(&groups, &group)?;
        groups.push(group);
    }
    Ok((groups, keys))
}

/// The groups whose options set keys of all groups, in the order in which they are to be merged: a
/// method replaces the student of an experiment, and a scale makes anything small.
const GLOBAL: [&[&str]; 3] = [&["experiment", "protocol"], &["method"], &["scale"]];

/// Refuses an option that would silently undo one of the options `before` it.
fn refuse_undone(before: &[GroupOverride], group: &GroupOverride) -> Result<()> {
    let rank = |group: &GroupOverride| {
        let added = matches!(
            &group.action,
            Action::Add(Some(_)) | Action::Replace(Some(_))
        );
        let is_known = |names: &&[&str]| names.contains(&group.group.as_str());
        GLOBAL.iter().position(is_known).filter(|_| added)
    };
    let first = before.iter().find(|other| rank(other) > rank(group));
    match first.filter(|_| rank(group).is_some()) {
        None => Ok(()),
        Some(first) => Err(undone(first, group)),
    }
}

fn undone(first: &GroupOverride, second: &GroupOverride) -> Error {
    Error::usage(format!(
        "`+{}` stands before `+{}`, whose keys would replace its own",
        first.group, second.group
    ))
    .note("from", first.origin.to_string())
    .note("from", second.origin.to_string())
    .hint(format!(
        "type `+{}=…` first and `+{}=…` behind it",
        second.group, first.group
    ))
}

/// Refuses an option of one group, as `+split=iid`, that stands before an experiment or the like
/// that sets one of its keys to something else.
pub fn refuse_replaced(parts: &[Part]) -> Result<()> {
    let mut set = BTreeMap::<Vec<String>, (&GroupOverride, Node)>::new();
    for part in parts {
        let Some(added) = &part.added else { continue };
        let is_global = GLOBAL
            .iter()
            .any(|names| names.contains(&added.group.as_str()));
        let mut replaced = None;
        part.content.placed().leaves(&mut |path, now| {
            if !is_global {
                set.insert(path.to_vec(), (added, now.clone()));
            } else if let Some((first, then)) = set.get(path)
                && then.value != now.value
            {
                let error = || undone(first, added).note("differs", path.join("."));
                replaced.get_or_insert_with(error);
            }
        });
        if let Some(error) = replaced {
            return Err(error);
        }
    }
    Ok(())
}

fn no_group(known: &[String], parsed: &Override) -> Error {
    if parsed.key.starts_with("hydra/") {
        return Error::usage(format!("there is no config group `{}`", parsed.key))
            .note("from", parsed.origin.to_string())
            .hint(HYDRA);
    }
    let error = Error::usage(format!("there is no config group `{}`", parsed.key))
        .note("from", parsed.origin.to_string())
        .note("available", list(known));
    let last = parsed.key.rsplit('/').next().unwrap_or_default();
    did_you_mean(error, nearest(last, known))
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
                return Err(Error::usage(format!(
                    "`{}` takes one option, not {}",
                    parsed.key,
                    value.described()
                ))
                .note("from", parsed.origin.to_string()));
            }
        },
        Some(Parsed::Many(_)) => {
            return Err(Error::usage(format!("`{}` takes one option", parsed.key)));
        }
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
