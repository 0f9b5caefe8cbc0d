//! Keys of config group `split` that its `kind` does not read: left unread, they would say
//! something that does not happen.

use super::issue::Issue;
use super::node::Node;
use super::schema::{Config, SplitKind};
use super::suggest::either;
use super::yaml;
use crate::error::Result;

/// Keys that all kinds read.
const COMMON: [&str; 3] = ["kind", "num_nodes", "save_path"];

/// One issue for each key of another kind. `tree` is the config's; a key counts as given where it
/// is not the built-in default.
pub fn split_keys(
    config: &Config,
    tree: &Node,
    set_by: &dyn Fn(&str) -> String,
) -> Result<Vec<Issue>> {
    let built_in = Node::built_in(&Config::default())?;
    let kind = config.split.kind;
    let given = |tree: &Node, key: &str| {
        tree.get(&["split", key])
            .map(|node| yaml::inline(&node.value))
    };
    let Some(keys) = tree.get(&["split"]).and_then(Node::as_map) else {
        return Ok(Vec::new());
    };
    let foreign = keys.keys().map(String::as_str).filter(|key| {
        !COMMON.contains(key)
            && !kind.keys().contains(key)
            && given(tree, key) != given(&built_in, key)
    });
    Ok(foreign.map(|key| issue(kind, key, set_by)).collect())
}

fn issue(kind: SplitKind, key: &str, set_by: &dyn Fn(&str) -> String) -> Issue {
    let full = format!("split.{key}");
    let from = set_by(&full);
    let own: Vec<_> = COMMON.iter().chain(kind.keys()).copied().collect();
    let takers: Vec<String> = SplitKind::ALL
        .iter()
        .filter(|kind| kind.keys().contains(&key))
        .map(|kind| format!("split.kind={}", kind.name()))
        .collect();
    let hint = match from.starts_with("command line") {
        true => format!("{} reads it", either(&takers)),
        false => format!("{} reads it; `~{full}` takes it back", either(&takers)),
    };
    Issue::new(format!(
        "`{full}` means nothing when `split.kind` is `{}`",
        kind.name()
    ))
    .note("set by", from)
    .note(
        "found",
        format!(
            "split.kind={}, set by {}",
            kind.name(),
            set_by("split.kind")
        ),
    )
    .note("available", own.join(", "))
    .hint(Some(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_by_some_kind_and_exists() {
        let tree = Node::built_in(&Config::default()).unwrap();
        let keys = tree.get(&["split"]).and_then(Node::as_map).unwrap();
        for key in keys.keys().map(String::as_str) {
            assert!(
                COMMON.contains(&key)
                    || SplitKind::ALL.iter().any(|kind| kind.keys().contains(&key)),
                "{key}"
            );
        }
        for kind in SplitKind::ALL {
            assert_eq!(serde_json::json!(kind), kind.name());
            assert!(
                kind.keys().iter().all(|key| keys.contains_key(*key)),
                "{kind:?}"
            );
        }
    }
}
