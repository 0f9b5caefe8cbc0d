//! Groups whose keys depend on their `kind`. While files and arguments are merged, the keys of all
//! kinds stand side by side; then those of other kinds are taken away. One that was set would say
//! something that does not happen: it is a mistake.

use super::apply::same;
use super::issue::Issue;
use super::node::{Node, Origin, Value};
use super::shape::{KIND, Keys, Shape, Takes};
use super::suggest::{either, list};
use crate::error::Result;

/// Adds the keys of all kinds, with their defaults, to the built-in tree.
///
/// # Errors
/// None but a default that JSON cannot hold.
pub fn complete(root: &mut Node, shape: &Shape) -> Result<()> {
    let (Takes::Keys(keys), Value::Map(map)) = (&shape.takes, &mut root.value) else {
        return Ok(());
    };
    for (key, shape) in &keys.all {
        match map.get_mut(key) {
            Some(node) => complete(node, shape)?,
            None if !keys.kinds.is_empty() => {
                map.insert(key.clone(), Node::built_in(&shape.default)?);
            }
            None => {}
        }
    }
    // As they are listed.
    if !keys.kinds.is_empty() {
        map.sort_by_cached_key(|key, _| keys.all.get_index_of(key));
    }
    Ok(())
}

/// Leaves the keys of each group's own kind, and reports those of others that were set to something
/// else than `built_in` has.
///
/// # Errors
/// As [`complete`].
pub fn choose(
    root: &mut Node,
    built_in: &Node,
    shape: &Shape,
    issues: &mut Vec<Issue>,
) -> Result<()> {
    for (group, shape) in shape.keys().into_iter().flatten() {
        if let (Takes::Keys(keys), Some(node)) = (&shape.takes, root.get_mut(&[group]))
            && let Some(kind) = node.get(&[KIND]).cloned()
            && let Some(own) = kind.as_text().and_then(|kind| keys.kinds.get(kind))
            && let Value::Map(map) = &mut node.value
        {
            for (key, node) in map.iter_mut() {
                if let Some(shape) = own.get(key)
                    && (node.origin == Origin::BuiltIn
                        || node.value == Value::Null && !shape.nullable)
                {
                    node.value = Node::built_in(&shape.default)?.value;
                }
            }
            let common: Vec<&String> = keys.common().collect();
            let other = |key: &String| !own.contains_key(key) && !common.contains(&key);
            let given = |(key, node): &(&String, &Node)| {
                let default = built_in.get(&[group, *key]);
                other(key)
                    && node.origin != Origin::BuiltIn
                    && node.value != Value::Null
                    && !default.is_some_and(|default| same(&default.value, &node.value))
            };
            for (key, node) in map.iter().filter(given) {
                let own = own.keys().filter(|key| !common.contains(key));
                let available: Vec<&String> = common.iter().copied().chain(own).collect();
                let issue = issue(group, key, node, &kind, keys);
                issues.push(issue.note("available", list(&available)));
            }
            map.retain(|key, _| !other(key));
        }
    }
    Ok(())
}

/// A key that the `kind` of its group does not read.
fn issue(group: &str, key: &str, node: &Node, kind: &Node, keys: &Keys) -> Issue {
    let readers = keys.kinds.iter().filter(|(_, own)| own.contains_key(key));
    let readers: Vec<String> = readers
        .map(|(kind, _)| format!("{group}.{KIND}={kind}"))
        .collect();
    let hint = match node.origin {
        Origin::Argument(_) => format!("{} reads it", either(&readers)),
        _ => format!(
            "{} reads it; `~{group}.{key}` takes it back",
            either(&readers)
        ),
    };
    let name = kind.as_text().unwrap_or_default();
    Issue::new(format!(
        "`{group}.{key}` means nothing when `{group}.{KIND}` is `{name}`"
    ))
    .note("set by", node.origin.to_string())
    .note(
        "found",
        format!("{group}.{KIND}={name}, set by {}", kind.origin),
    )
    .hint(Some(hint))
}
