//! Finds keys that do not exist, all in one pass, each with what it may have been meant for.

use super::node::{Node, Origin};
use super::shape::Shape;
use super::suggest::{either, list, nearest};
use super::yaml;
use crate::error::Error;

/// Names of keys in the public Python project and in the literature on splits, each with the name
/// here, where similarity would not find it.
const OTHER_NAMES: [(&str, &str); 20] = [
    ("split.beta", "split.alpha"),
    ("split.clients", "split.num_nodes"),
    ("split.n_clients", "split.num_nodes"),
    ("split.n_nodes", "split.num_nodes"),
    ("split.n_parties", "split.num_nodes"),
    ("split.num_clients", "split.num_nodes"),
    ("split.num_parties", "split.num_nodes"),
    ("split.num_users", "split.num_nodes"),
    ("split.num_shards", "split.shards_per_node"),
    ("deep_inv.iterations", "deep_inv.di.grad_updates_batch"),
    ("deep_inv.steps", "deep_inv.di.grad_updates_batch"),
    ("deep_inv.di.iterations", "deep_inv.di.grad_updates_batch"),
    ("deep_inv.di.steps", "deep_inv.di.grad_updates_batch"),
    ("deep_inv.adi.iterations", "deep_inv.adi.grad_updates_batch"),
    ("deep_inv.adi.steps", "deep_inv.adi.grad_updates_batch"),
    ("deep_inv.di.num_teachers", "deep_inv.teachers.n"),
    ("deep_inv.adi.num_teachers", "deep_inv.teachers.n"),
    ("teacher.train_epochs", "teacher.epochs"),
    ("student.train_epochs", "student.epochs"),
    ("student.criterion", "student.class_weights"),
];

/// Answers a setting of Hydra itself.
pub const HYDRA: &str = "Hydra's own settings are not read: a run writes to the path that its \
    config names (`student.save_folder`, `split.save_path`, …), with the config in `.hydra/` \
    beside it; a sweep (`-m`) gives each job a folder of its own";

/// Takes every key out of `root` that `reference` (the shape of the config) lacks, and reports it.
/// `groups` are named beside the keys at the top.
pub fn take_unknown(
    root: &mut Node,
    reference: &Shape,
    groups: &[String],
    mistakes: &mut Vec<Error>,
) {
    let mut unknown = Vec::new();
    collect(root, reference, &mut Vec::new(), &mut unknown);
    let mut taken: Vec<_> = unknown
        .into_iter()
        .filter_map(|path| Some((root.remove(&path)?, path)))
        .collect();
    taken.sort_by(|(a, _), (b, _)| a.origin.position().cmp(&b.origin.position()));
    mistakes.extend(
        taken
            .iter()
            .map(|(node, path)| describe(path, node, reference, groups)),
    );
}

fn collect(node: &Node, reference: &Shape, path: &mut Vec<String>, unknown: &mut Vec<Vec<String>>) {
    let (Some(map), Some(known)) = (node.as_map(), reference.keys()) else {
        return;
    };
    for (key, child) in map {
        path.push(key.clone());
        match known.get(key) {
            Some(reference) => collect(child, reference, path, unknown),
            None => unknown.push(path.clone()),
        }
        path.pop();
    }
}

fn describe(path: &[String], node: &Node, reference: &Shape, groups: &[String]) -> Error {
    let Some((last, parents)) = path.split_last() else {
        return Error::usage("unknown key");
    };
    // The content of a file in `a/b` stands below two keys.
    let body = |group: &String| {
        let mut names = group.split('/');
        let is_at_top = names.next() == Some(last.as_str()) && parents.is_empty();
        node.get(&names.collect::<Vec<_>>()).filter(|_| is_at_top)
    };
    if let Some((group, body)) = groups.iter().find_map(|group| Some((group, body(group)?))) {
        return no_key(group, body);
    }
    let mut siblings: Vec<String> = match reference.get(parents).and_then(Shape::keys) {
        Some(map) => map.keys().cloned().collect(),
        None => Vec::new(),
    };
    if parents.is_empty() {
        let more: Vec<_> = groups
            .iter()
            .filter(|group| !siblings.contains(group))
            .cloned()
            .collect();
        siblings.extend(more);
    }
    let full = path.join(".");
    if path.first().is_some_and(|key| key == "hydra") {
        return Error::usage(format!("unknown key `{full}`"))
            .note("set by", first_origin(node).to_string())
            .hint(HYDRA);
    }
    let error = Error::usage(format!("unknown key `{full}`"))
        .note("set by", first_origin(node).to_string())
        .note("available", list(&siblings));
    match hint(last, parents, node, reference, &siblings) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Returns the mistake of a group that stands where a key does, since its options set keys of
/// other groups, or since it was meant to be chosen.
fn no_key(group: &str, node: &Node) -> Error {
    let origin = first_origin(node);
    let hint = match (origin, node.as_map().and_then(|keys| keys.first())) {
        (Origin::File { .. }, Some((key, _))) => {
            format!("to set `{key}` at the top, begin the file with `# @package _global_`")
        }
        (Origin::File { .. }, None) => {
            format!("to choose an option of it, write `- /{group}: OPTION` below `defaults:`")
        }
        _ => format!("type `+{group}=OPTION`"),
    };
    Error::usage(format!("`{group}` is a group, not a key"))
        .note("set by", origin.to_string())
        .hint(hint)
}

/// Returns the origin of the first value below: a mapping itself may begin elsewhere than the key
/// that counts.
fn first_origin(node: &Node) -> &Origin {
    match node.as_map().and_then(|map| map.first()) {
        Some((_, child)) if matches!(node.origin, Origin::Argument(_)) => first_origin(child),
        _ => &node.origin,
    }
}

fn hint(
    last: &str,
    parents: &[String],
    node: &Node,
    reference: &Shape,
    siblings: &[String],
) -> Option<String> {
    if !parents.is_empty()
        && reference.get(&[last]).is_some()
        && matches!(node.origin, Origin::File { .. })
    {
        return Some(format!(
            "to set `{last}` at the top, begin the file with `# @package _global_`"
        ));
    }
    if let Some((first, rest)) = last.split_once('.') {
        let rest: Vec<String> = rest.split('.').map(str::to_owned).collect();
        let value = yaml::inline(&node.clone().placed_at(&rest).value);
        return Some(format!("keys of a mapping are nested: `{first}: {value}`"));
    }
    // The rest of a key that was set by its full name: `optimizer.lr=…` means some
    // `….optimizer.lr`.
    let below = single_path(node);
    let tail = std::iter::once(last.to_owned())
        .chain(below.iter().cloned())
        .collect::<Vec<_>>();
    let typed = parents
        .iter()
        .map(String::as_str)
        .chain([last])
        .collect::<Vec<_>>()
        .join(".");
    if let Some((_, here)) = OTHER_NAMES.iter().find(|(other, _)| *other == typed) {
        return Some(format!("did you mean `{here}`?"));
    }
    // Of a key with a wrong beginning, those of the same group: `teacher.lr=…` means
    // `teacher.optimizer.lr`.
    let mut full = Vec::new();
    reference.leaves(&mut |path| {
        if path.len() > tail.len()
            && path.ends_with(&tail)
            && parents.iter().take(1).all(|group| *group == path[0])
        {
            full.push(path.join("."));
        }
    });
    if !full.is_empty() {
        return Some(format!("did you mean {}?", either(&full)));
    }
    let name = nearest(last, siblings)?;
    let renamed: Vec<_> = parents.iter().map(String::as_str).chain([name]).collect();
    let longer: Vec<_> = renamed
        .iter()
        .copied()
        .chain(below.iter().map(String::as_str))
        .collect();
    let best = if reference.get(&longer).is_some() {
        longer
    } else {
        renamed
    };
    Some(format!("did you mean `{}`?", best.join(".")))
}

/// Returns the keys below a node as long as there is only one.
fn single_path(node: &Node) -> Vec<String> {
    match node.as_map() {
        Some(map) if map.len() == 1 => {
            let mut path = Vec::new();
            for (key, child) in map {
                path.push(key.clone());
                path.extend(single_path(child));
            }
            path
        }
        _ => Vec::new(),
    }
}
