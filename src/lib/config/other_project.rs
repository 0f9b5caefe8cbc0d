//! Tells a `./config` of another project from one of this program: many programs keep theirs in a
//! folder of that name, with groups `model` and `dataset`.

use super::defaults::{File, Item, Pick};
use super::shape;
use super::tree::{Tree, join};

/// Groups that no other program is likely to have.
const OWN: [&str; 4] = ["deep_inv", "distributed_sgd", "fed_avg", "fed_md"];

/// Returns what makes the tree another program's: a key or a group that this one does not have.
pub fn reason(tree: &Tree, primary: &str) -> Option<String> {
    let groups = tree.groups();
    if groups.iter().any(|group| OWN.contains(&group.as_str())) {
        return None;
    }
    let file = match File::load(tree, primary) {
        Ok(file) => file,
        Err(error) => return Some(error.what()),
    };
    let keys = file.body.as_map().into_iter().flatten();
    let mut keys = keys.map(|(key, node)| (key.as_str(), node));
    if let Some((key, node)) = keys.find(|(key, _)| shape::config().get(&[key]).is_none()) {
        return Some(format!(
            "key `{key}` is none of this program ({})",
            node.origin
        ));
    }
    for item in &file.items {
        let Item::Choice(choice) = item else { continue };
        let Pick::Option(option) = &choice.pick else {
            continue;
        };
        let path = join(&choice.group, &format!("{option}.yaml"));
        if !tree.has(&path) {
            return Some(format!("there is no file `{path}` ({})", choice.origin));
        }
        let Ok(chosen) = File::load(tree, &path) else {
            continue;
        };
        let Some(known) = shape::config().get(&chosen.package) else {
            return Some(format!("group `{}` is none of this program", choice.group));
        };
        let own = chosen.body.as_map().into_iter().flatten();
        let mut own = own.map(|(key, node)| (key.as_str(), node));
        if let Some((key, node)) = own.find(|(key, _)| known.get(&[key]).is_none()) {
            let origin = &node.origin;
            return Some(format!("key `{key}` is none of this program ({origin})"));
        }
    }
    None
}
