//! Takes a config file apart into its `defaults:` list, its package and its own keys.

use super::node::{Node, Origin, Value};
use super::tree::{Tree, join};
use super::yaml;
use crate::error::{Error, Result};
use std::rc::Rc;

/// Says what a file chooses for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Chooses this option.
    Option(String),
    /// Chooses nothing (`null`); a later choice is merged here.
    Nothing,
    /// Demands that the user chooses (`???`).
    Mandatory,
}

/// Is a line of a defaults list.
#[derive(Clone, Debug)]
pub enum Item {
    /// Stands for the file's own keys (`_self_`).
    Own,
    /// Names another file of the same folder (`name`).
    File { path: String, origin: Origin },
    /// Chooses an option of a group (`group: option` and its variants).
    Choice(Choice),
}

/// Holds a line `group: option`, `override group: option` or `optional group: option`.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Name of the group from the top of the tree.
    pub group: String,
    pub pick: Pick,
    /// Whether it replaces what other files choose.
    pub overrides: bool,
    /// Whether a missing file is passed over.
    pub optional: bool,
    pub origin: Origin,
}

/// Holds a config file.
#[derive(Debug)]
pub struct File {
    /// Path of the keys, in the whole config, below which its own keys go.
    pub package: Vec<String>,
    /// The defaults list, with `_self_` in it exactly once.
    pub items: Vec<Item>,
    /// Its own keys.
    pub body: Node,
}

impl File {
    /// Returns its own keys where they stand in the whole config. A file without keys sets nothing,
    /// and its package may be no key.
    pub fn placed(&self) -> Node {
        let is_empty = self.body.as_map().is_some_and(|keys| keys.is_empty());
        let package: &[String] = if is_empty { &[] } else { &self.package };
        self.body.clone().placed_at(package)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Fails when the file is broken or its defaults list is.
    pub fn load(tree: &Tree, path: &str) -> Result<Rc<Self>> {
        let text = tree.read(path)?;
        let label = tree.label(path);
        let mut body = yaml::read(&text, &label)?;
        let group = path.rsplit_once('/').map_or("", |(group, _)| group);
        let mut items = match body.remove(&["defaults".to_owned()]) {
            Some(list) => read_list(list, group)?,
            None => Vec::new(),
        };
        if !items.iter().any(|item| matches!(item, Item::Own)) {
            items.push(Item::Own);
        }
        let package = package(&text, group);
        Ok(Rc::new(Self {
            package,
            items,
            body,
        }))
    }
}

/// Returns the `# @package` of the comments at the head of a file; else the group's name.
fn package(text: &str, group: &str) -> Vec<String> {
    let split = |name: &str, at: char| {
        name.split(at)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    // YAML's own header, `%YAML 1.2` and `---`, may stand in front.
    let is_head = |line: &&str| line.is_empty() || *line == "---" || line.starts_with(['#', '%']);
    let head = text.lines().map(str::trim).take_while(is_head);
    let header = head
        .filter_map(|line| line.trim_start_matches('#').trim().strip_prefix("@package"))
        .map(str::trim)
        .next();
    match header {
        Some("_global_") => Vec::new(),
        Some("_group_") | None => split(group, '/'),
        Some(name) => split(name, '.'),
    }
}

fn read_list(list: Node, group: &str) -> Result<Vec<Item>> {
    let Value::List(items) = list.value else {
        return Err(bad(&list.origin, "`defaults` must be a list"));
    };
    let mut read: Vec<Item> = Vec::new();
    for item in items {
        let item = read_item(&item, group)?;
        if matches!(item, Item::Own) && read.iter().any(|item| matches!(item, Item::Own)) {
            return Err(bad(
                &list.origin,
                "`_self_` stands twice in one defaults list",
            ));
        }
        read.push(item);
    }
    Ok(read)
}

fn read_item(item: &Node, folder: &str) -> Result<Item> {
    match &item.value {
        Value::Text(text) if text == "_self_" => Ok(Item::Own),
        Value::Text(text) => Ok(Item::File {
            path: format!(
                "{}.yaml",
                absolute(text.strip_suffix(".yaml").unwrap_or(text), folder)
            ),
            origin: item.origin.clone(),
        }),
        Value::Map(map) => match map.first() {
            Some((key, node)) if map.len() == 1 => read_choice(key, node, folder).map(Item::Choice),
            _ => Err(bad(
                &item.origin,
                "a line of a defaults list holds one `group: option`",
            )),
        },
        value => Err(bad(
            &item.origin,
            &format!("a defaults list cannot hold {}", value.described()),
        )),
    }
}

fn read_choice(key: &str, node: &Node, folder: &str) -> Result<Choice> {
    let mut words: Vec<_> = key.split_whitespace().collect();
    let name = words.pop().unwrap_or_default();
    if let Some(other) = words
        .iter()
        .find(|word| !matches!(**word, "override" | "optional"))
    {
        return Err(bad(
            &node.origin,
            &format!("`{other}` before a group must be `override` or `optional`"),
        ));
    }
    if name.contains('@') {
        return Err(bad(
            &node.origin,
            &format!("`{name}` names a package, which is not supported"),
        ));
    }
    let pick = match &node.value {
        Value::Null => Pick::Nothing,
        Value::Text(text) if text == "???" => Pick::Mandatory,
        Value::Text(text) if text.contains("${") => {
            return Err(bad(
                &node.origin,
                &format!("`{text}`: a defaults list cannot refer to keys"),
            ));
        }
        Value::Text(text) => Pick::Option(text.clone()),
        Value::Int(_) | Value::Bool(_) | Value::Float(_) => Pick::Option(yaml::inline(&node.value)),
        value => {
            return Err(bad(
                &node.origin,
                &format!("a group takes one option, not {}", value.described()),
            ));
        }
    };
    Ok(Choice {
        group: absolute(name, folder),
        pick,
        overrides: words.contains(&"override"),
        optional: words.contains(&"optional"),
        origin: node.origin.clone(),
    })
}

/// Returns the path from the top of the tree of `/name`, or of `name` in the file's own folder.
fn absolute(name: &str, folder: &str) -> String {
    match name.strip_prefix('/') {
        Some(name) => name.to_owned(),
        None => join(folder, name),
    }
}

fn bad(origin: &Origin, what: &str) -> Error {
    Error::usage(what).note("file", origin.to_string()).note(
        "expected",
        "lines `- group: option`, `- /group: option`, `- override /group: option`, `- name` or `- \
         _self_`",
    )
}
