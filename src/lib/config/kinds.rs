//! Groups whose keys depend on their `kind`. While files and arguments are merged, the keys of all
//! kinds stand side by side; then those of other kinds are taken away. One that was set would say
//! something that does not happen: it is a mistake.

use super::apply::same;
use super::node::{Node, Origin, Value};
use super::shape::{KIND, Keys, Shape, Takes};
use super::suggest::{either, list};
use crate::error::Error;
use indexmap::IndexMap;
use serde_json::Value as Json;

/// Adds the keys of all kinds, with their defaults, to the built-in tree.
pub fn complete(root: &mut Node, shape: &Shape) {
    let (Takes::Keys(keys), Value::Map(map)) = (&shape.takes, &mut root.value) else {
        return;
    };
    for (key, shape) in &keys.all {
        match map.get_mut(key) {
            Some(node) => complete(node, shape),
            None if !keys.kinds.is_empty() => {
                map.insert(key.clone(), Node::from_json(&shape.default));
            }
            None => {}
        }
    }
    // As they are listed.
    if !keys.kinds.is_empty() {
        map.sort_by_cached_key(|key, _| keys.all.get_index_of(key));
    }
}

/// Leaves the keys of a group's own kind, and reports those of others that were typed, or that a
/// file sets to something else than `built_in`, the default of the group, has. `group` is its full
/// key.
pub fn choose(
    map: &mut IndexMap<String, Node>,
    keys: &Keys,
    group: &str,
    built_in: Option<&Node>,
    mistakes: &mut Vec<Error>,
) {
    let Some(kind) = map.get(KIND).cloned() else {
        return;
    };
    let name = kind.as_text().unwrap_or_default();
    let default = |key: &str| built_in?.get(&[key]);
    let is_default_kind = default(KIND).and_then(Node::as_text) == Some(name);
    for (key, shape) in keys.kinds.get(name).into_iter().flatten() {
        if let Some(node) = map.get_mut(key)
            && (node.origin == Origin::BuiltIn || node.value == Value::Null && !shape.nullable)
        {
            node.value = match default(key).filter(|_| is_default_kind) {
                Some(default) => default.value.clone(),
                None => Node::from_json(&shape.default).value,
            };
        }
    }
    map.retain(|key, node| {
        let of_another_kind = keys.is_of_another_kind(name, key);
        let is_set = node.origin != Origin::BuiltIn && node.value != Value::Null;
        let is_typed = matches!(node.origin, Origin::Argument(_));
        let is_default = || default(key).is_some_and(|default| same(&default.value, &node.value));
        let repeats = || !is_typed && is_default();
        if of_another_kind && is_set && !repeats() {
            mistakes.push(means_nothing(group, key, node, &kind, keys));
        }
        !of_another_kind
    });
}

/// Returns the mistake of a key that the `kind` of its group does not have.
fn means_nothing(group: &str, key: &str, node: &Node, kind: &Node, keys: &Keys) -> Error {
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
    let common: Vec<&String> = keys.common().collect();
    let own = keys.kinds.get(name).into_iter().flat_map(IndexMap::keys);
    let own = own.filter(|key| !common.contains(key));
    let available: Vec<&String> = common.iter().copied().chain(own).collect();
    Error::usage(format!(
        "`{group}.{key}` means nothing when `{group}.{KIND}` is `{name}`"
    ))
    .note("set by", node.origin.to_string())
    .note(
        "found",
        format!("{group}.{KIND}={name}, set by {}", kind.origin),
    )
    .note("available", list(&available))
    .hint(hint)
}

/// Brings a config that an earlier version recorded into this version's form, in which a group has
/// the keys of its own kind alone, all of them, and `null` is no default. A key that the earlier
/// version did not know gets its `built_in` value, with which this version does what that one did.
pub fn settle(value: &mut Json, shape: &Shape, built_in: &Json) {
    let (Takes::Keys(keys), Some(map)) = (&shape.takes, value.as_object_mut()) else {
        return;
    };
    let mut kind = String::new();
    if let Some(first) = keys.kinds.keys().next().filter(|_| keys.is_enum) {
        // Splits had no kinds at first: all were of what is now the first.
        let named = map.entry(KIND).or_insert_with(|| first.as_str().into());
        kind = named.as_str().unwrap_or_default().to_owned();
        map.retain(|key, _| !keys.is_of_another_kind(&kind, key));
    }
    let of_kind = keys.kinds.get(&kind);
    let is_same_kind = of_kind.is_none() || built_in[KIND] == kind;
    for (key, shape) in &keys.all {
        if keys.is_of_another_kind(&kind, key) {
            continue;
        }
        // A kind may have a default of its own for a key of several.
        let own = of_kind.and_then(|keys| keys.get(key));
        let shape = own.unwrap_or(shape);
        let default = built_in.get(key).filter(|_| own.is_none() || is_same_kind);
        let default = default.unwrap_or(&shape.default);
        let value = map.entry(key).or_insert_with(|| default.clone());
        if value.is_null() && own.is_some() && !shape.nullable {
            *value = default.clone();
        }
        settle(value, shape, default);
    }
}
