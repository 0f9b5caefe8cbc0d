//! Holds config values together with their origin: what files, arguments and built-in defaults are
//! merged as, before any type is known.

use crate::error::{Error, Result};
use indexmap::IndexMap;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// Says who set a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Is a value of `Config::default()`.
    BuiltIn,
    /// Is a line of a config file, counted from 1.
    File { file: Arc<str>, line: usize },
    /// Is an override, as it was typed.
    Argument(Arc<str>),
}

impl Origin {
    /// Returns a key for sorting: files line by line, then the command line.
    pub fn position(&self) -> (u8, &str, usize) {
        match self {
            Self::BuiltIn => (0, "", 0),
            Self::File { file, line } => (1, file, *line),
            Self::Argument(_) => (2, "", 0),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => out.write_str("built-in default"),
            Self::File { file, line } => write!(out, "{file}:{line}"),
            Self::Argument(text) => write!(out, "command line `{text}`"),
        }
    }
}

/// Is a value as YAML and overrides know it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    /// Is text of an environment variable, which has no type of its own: it is read as a number or
    /// a truth value where one is needed.
    Environment(String),
    List(Vec<Node>),
    Map(IndexMap<String, Node>),
}

/// Holds a value and who set it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub origin: Origin,
}

impl Node {
    /// Returns a node.
    pub fn new(value: Value, origin: &Origin) -> Self {
        Self {
            value,
            origin: origin.clone(),
        }
    }

    /// Returns any serialisable value as a tree in field order.
    ///
    /// # Errors
    /// Fails at a number that is not finite: JSON has no others.
    pub fn built_in(value: &impl Serialize) -> Result<Self> {
        let json = serde_json::to_value(value).map_err(|error| {
            Error::failed(format!("the configuration cannot be serialised: {error}"))
        })?;
        Ok(Self::from_json(&json))
    }

    /// Returns a JSON value as a built-in default.
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => match number.as_i128() {
                Some(whole) => Value::Int(whole),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(fields) => {
                let fields = fields.iter();
                Value::Map(
                    fields
                        .map(|(k, v)| (k.clone(), Self::from_json(v)))
                        .collect(),
                )
            }
        };
        Self::new(value, &Origin::BuiltIn)
    }

    /// Returns the keys of a mapping.
    pub fn as_map(&self) -> Option<&IndexMap<String, Node>> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the text of a string.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Environment(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the node at a path of mapping keys.
    pub fn get<S: AsRef<str>>(&self, path: &[S]) -> Option<&Node> {
        path.iter()
            .try_fold(self, |node, key| node.as_map()?.get(key.as_ref()))
    }

    /// Returns the node at a path of mapping keys, to be changed.
    pub fn get_mut<S: AsRef<str>>(&mut self, path: &[S]) -> Option<&mut Node> {
        path.iter()
            .try_fold(self, |node, key| match &mut node.value {
                Value::Map(map) => map.get_mut(key.as_ref()),
                _ => None,
            })
    }

    /// Removes the node at a path from its mapping, keeping the order of the rest.
    pub fn remove(&mut self, path: &[String]) -> Option<Node> {
        let (last, parents) = path.split_last()?;
        match &mut self.get_mut(parents)?.value {
            Value::Map(map) => map.shift_remove(last),
            _ => None,
        }
    }

    /// Wraps a node into mappings, so that it stands at `path`.
    pub fn placed_at(self, path: &[String]) -> Self {
        path.iter().rev().fold(self, |node, key| {
            let origin = node.origin.clone();
            Self::new(Value::Map(IndexMap::from([(key.clone(), node)])), &origin)
        })
    }

    /// Merges `over` into the tree: mappings merge deeply, anything else is replaced.
    ///
    /// # Errors
    /// Fails when a key would be set below a reference, since the keys beside it would be lost.
    pub fn merge(&mut self, over: Node) -> Result<()> {
        match (&mut self.value, over.value) {
            (Value::Map(base), Value::Map(fields)) => {
                for (key, node) in fields {
                    match base.get_mut(&key) {
                        Some(below) => below.merge(node)?,
                        None => {
                            base.insert(key, node);
                        }
                    }
                }
            }
            (Value::Text(text), Value::Map(fields))
                if text.contains("${") && !fields.is_empty() =>
            {
                return Err(Error::usage(format!(
                    "cannot set keys below `{text}`, a reference to other keys"
                ))
                .note("from", over.origin.to_string())
                .note("set by", self.origin.to_string())
                .hint(
                    "replace the reference by a mapping of its own, or set the keys it refers to",
                ));
            }
            (_, value) => *self = Node::new(value, &over.origin),
        }
        Ok(())
    }

    /// Calls `visit` with the path and node of everything that is not a mapping with keys, in
    /// order.
    pub fn leaves(&self, visit: &mut impl FnMut(&[String], &Node)) {
        fn walk(node: &Node, path: &mut Vec<String>, visit: &mut impl FnMut(&[String], &Node)) {
            match node.as_map() {
                Some(map) if !map.is_empty() || path.is_empty() => {
                    for (key, child) in map {
                        path.push(key.clone());
                        walk(child, path, visit);
                        path.pop();
                    }
                }
                _ => visit(path, node),
            }
        }
        walk(self, &mut Vec::new(), visit);
    }
}

impl Value {
    /// Returns how a message names the value: `string "fast"`, `number 3`, `list [1, 2]`.
    pub fn described(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(flag) => flag.to_string(),
            // A whole number that a type has made 80.0 was typed as 80.
            Self::Float(number) if number.fract() == 0.0 && number.abs() < 1e9 => {
                format!("number {number}")
            }
            Self::Int(_) | Self::Float(_) => format!("number {}", super::yaml::inline(self)),
            Self::Text(text) | Self::Environment(text) => format!("string {text:?}"),
            Self::List(_) => format!("list {}", super::yaml::inline(self)),
            Self::Map(_) => format!("mapping {}", super::yaml::inline(self)),
        }
    }
}
