//! Reads lists of options: where a list holds architectures, a name in it stands for what that
//! option of group `model` sets.

use super::choices::{Action, GroupOverride, expand};
use super::node::{Node, Value};
use super::schema::Config;
use super::tree::Source;
use crate::error::Result;

/// Paths of the lists, each with the group whose options it names.
const LISTS: [(&[&str], &str); 1] = [(&["fed_md", "models"], "model")];

/// Replaces each option's name by the keys that it sets. They are what `group=option` alone would
/// have composed: overrides of single keys of the group are not for the list.
///
/// # Errors
/// Fails at an option that the group does not have, or whose files do not compose.
pub fn spell_out(root: &mut Node, source: &Source) -> Result<()> {
    for (path, group) in LISTS {
        let Some(Value::List(items)) = root.get_mut(path).map(|node| &mut node.value) else {
            continue;
        };
        for item in items {
            if let Some(name) = item.as_text().map(str::to_owned) {
                let origin = item.origin.clone();
                let asked = GroupOverride {
                    group: group.into(),
                    action: Action::Replace(Some(name)),
                    origin: origin.clone(),
                };
                let mut whole = Node::built_in(&Config::default())?;
                for part in expand(source, &[asked])?.parts {
                    whole.merge(part.content.placed())?;
                }
                if let Some(option) = whole.get(&[group]) {
                    *item = Node::new(option.value.clone(), &origin);
                }
            }
        }
    }
    Ok(())
}
