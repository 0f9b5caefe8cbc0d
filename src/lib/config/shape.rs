//! Holds the keys of the config and what each of them takes, read once from the JSON schema that is
//! derived from the settings structs.

use super::range::{Range, is_unsigned};
use super::schema::Config;
use crate::setting::{FILE_PATH, FREE, READ_BY, UNREAD_BY};
use indexmap::IndexMap;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Says what a key takes.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Type of its value.
    pub takes: Takes,
    /// What it means, as the settings struct documents it.
    pub about: String,
    /// Whether `null` is allowed.
    pub nullable: bool,
    /// Whether it changes no result.
    pub free: bool,
    /// Kinds of its group that do not read it.
    pub unread_by: Vec<String>,
    /// The only kinds of its group that read it; empty where `unread_by` says who does not.
    pub read_by: Vec<String>,
    /// Range that a number, or each number of a list, must lie in.
    pub range: Option<Range>,
    /// Built-in default of a key that only some kinds of its group have.
    pub default: Value,
}

/// Is the type of a key's value.
#[derive(Clone, Debug)]
pub enum Takes {
    /// Takes a mapping of these keys.
    Keys(Keys),
    /// Takes a list, of so many values if there is a number.
    List(Box<Shape>, Option<usize>),
    /// Takes one of these names.
    Names(Vec<String>),
    /// Takes any text.
    Text,
    /// Takes the path of a file or folder.
    Path,
    /// Takes `true` or `false`.
    Flag,
    /// Takes a whole number, with `true` of any sign, else 0 or more.
    Whole(bool),
    /// Takes a finite number.
    Number,
}

/// Holds the keys of a mapping.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// All keys, whatever the kind.
    pub all: IndexMap<String, Shape>,
    /// Each name that `kind` may have, with the keys that depend on it; empty where none do.
    pub kinds: IndexMap<String, IndexMap<String, Shape>>,
    /// Whether the config holds the keys of one kind alone, as an enum does.
    pub is_enum: bool,
}

/// Returns the shape of the whole config.
pub fn config() -> &'static Shape {
    static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
        let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<Config>();
        Shape::read(schema.as_object().unwrap_or(&Map::new()))
    });
    &SHAPE
}

impl Shape {
    /// Returns what the key takes and means, for people: `whole number, 1 or more. Passes over …`.
    pub fn words(&self) -> String {
        let takes = match &self.takes {
            Takes::Keys(_) => "keys".into(),
            Takes::List(..) => "list".into(),
            Takes::Names(names) => names.join(" | "),
            Takes::Text => "text".into(),
            Takes::Path => "path".into(),
            Takes::Flag => "true | false".into(),
            Takes::Whole(_) => "whole number".into(),
            Takes::Number => "number".to_owned(),
        };
        // Of a text it is the length.
        let range = self.range.as_ref();
        let range = range.filter(|_| !matches!(self.takes, Takes::Text | Takes::Path));
        let range = range.map(|range| format!(", {}", range.words()));
        let null = if self.nullable { " | null" } else { "" };
        // The settings structs say `None` for it.
        let about = self.about.replace("`None` (`null`)", "`null`");
        let about = about.replace("`None` (`null` in a config)", "`null`");
        let about = about.replace("`None`", "`null`");
        format!("{takes}{}{null}. {about}", range.unwrap_or_default())
    }

    /// Returns the shape of a key below this one.
    pub fn get<S: AsRef<str>>(&self, path: &[S]) -> Option<&Shape> {
        path.iter()
            .try_fold(self, |shape, key| shape.keys()?.get(key.as_ref()))
    }

    /// Returns the keys of a mapping, of all its kinds.
    pub fn keys(&self) -> Option<&IndexMap<String, Shape>> {
        match &self.takes {
            Takes::Keys(keys) => Some(&keys.all),
            _ => None,
        }
    }

    /// Calls `visit` with the path of every key that is no mapping, in order.
    pub fn leaves(&self, visit: &mut impl FnMut(&[String])) {
        fn walk(shape: &Shape, path: &mut Vec<String>, visit: &mut impl FnMut(&[String])) {
            let Some(keys) = shape.keys() else {
                return visit(path);
            };
            for (key, shape) in keys {
                path.push(key.clone());
                walk(shape, path, visit);
                path.pop();
            }
        }
        walk(self, &mut Vec::new(), visit);
    }

    fn read(schema: &Map<String, Value>) -> Self {
        // `Option` of what is no plain type is `anyOf` of it and null.
        if let Some(either) = schema.get("anyOf").and_then(Value::as_array) {
            let mut some = either.iter().filter_map(Value::as_object);
            if let Some(some) = some.find(|schema| schema.get("type") != Some(&"null".into())) {
                let outer = schema.iter().filter(|(key, _)| *key != "anyOf");
                let both = some.iter().chain(outer);
                let both = both
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                return Self {
                    nullable: true,
                    ..Self::read(&both)
                };
            }
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(name)) => vec![name],
            _ => Vec::new(),
        };
        let takes = Takes::read(schema, types.first().copied().unwrap_or_default());
        let items = match &takes {
            Takes::List(items, _) => items.range.clone(),
            _ => None,
        };
        Self {
            range: Range::read(schema).or(items),
            takes,
            about: schema
                .get("description")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .replace('\n', " "),
            nullable: types.contains(&"null"),
            free: schema.contains_key(FREE),
            unread_by: strings(schema, UNREAD_BY).collect(),
            read_by: strings(schema, READ_BY).collect(),
            default: schema.get("default").cloned().unwrap_or_default(),
        }
    }

    /// Returns true for a key that every kind of its group reads.
    fn is_read_by_all(&self) -> bool {
        self.unread_by.is_empty() && self.read_by.is_empty()
    }

    fn is_read_by(&self, kind: &String) -> bool {
        let only = &self.read_by;
        !self.unread_by.contains(kind) && (only.is_empty() || only.contains(kind))
    }
}

impl Takes {
    fn read(schema: &Map<String, Value>, name: &str) -> Self {
        let names = names(schema);
        match name {
            "object" => Self::Keys(Keys::read(schema)),
            "array" => {
                let items = schema.get("items").and_then(Value::as_object);
                let length = schema.get("maxItems").and_then(Value::as_u64);
                let items = Shape::read(items.unwrap_or(&Map::new()));
                Self::List(Box::new(items), length.map(|length| length as usize))
            }
            "boolean" => Self::Flag,
            "integer" => Self::Whole(!is_unsigned(schema)),
            "number" => Self::Number,
            _ if !names.is_empty() => Self::Names(names),
            _ if schema.get("format") == Some(&FILE_PATH.into()) => Self::Path,
            // An enum of which each variant is a mapping.
            _ if schema.contains_key("oneOf") => Self::Keys(Keys::read(schema)),
            _ => Self::Text,
        }
    }
}

impl Keys {
    fn read(schema: &Map<String, Value>) -> Self {
        let shapes = |schema: &Map<String, Value>| -> IndexMap<String, Shape> {
            let properties = schema.get("properties").and_then(Value::as_object);
            let shape = |(key, schema): (&String, &Value)| {
                Some((key.clone(), Shape::read(schema.as_object()?)))
            };
            properties.into_iter().flatten().filter_map(shape).collect()
        };
        let mut keys = Self::default();
        for kind in array(schema, "oneOf") {
            let mut own = kind.as_object().map(shapes).unwrap_or_default();
            let Some(Shape {
                takes: Takes::Names(name),
                ..
            }) = own.shift_remove(KIND)
            else {
                continue;
            };
            keys.kinds.insert(name.concat(), own);
        }
        if !keys.kinds.is_empty() {
            let names: Value = keys.kinds.keys().cloned().collect();
            let about = "Which one; the other keys depend on it.".into();
            let kind = Map::from_iter([
                ("enum".to_owned(), names),
                ("description".to_owned(), about),
            ]);
            keys.all.insert(KIND.into(), Shape::read(&kind));
        }
        for own in keys.kinds.values() {
            for (key, shape) in own {
                keys.all.entry(key.clone()).or_insert_with(|| shape.clone());
            }
        }
        keys.is_enum = !keys.kinds.is_empty();
        keys.all.extend(shapes(schema));
        keys.divide();
        keys
    }

    /// Divides keys of a struct that not all kinds read among the kinds.
    fn divide(&mut self) {
        let mut divided = self.all.clone();
        divided.retain(|_, shape| !shape.is_read_by_all());
        let kind = self.all.get(KIND).map(|kind| &kind.takes);
        if let (Some(Takes::Names(names)), false) = (kind, divided.is_empty()) {
            for name in names {
                let mut own = divided.clone();
                own.retain(|_, shape| shape.is_read_by(name));
                self.kinds.insert(name.clone(), own);
            }
        }
    }

    /// Returns the shape of a key where the group's kind is `kind`.
    pub fn of(&self, kind: Option<&str>, key: &str) -> Option<&Shape> {
        let own = kind.and_then(|kind| self.kinds.get(kind)?.get(key));
        own.or_else(|| self.all.get(key))
    }

    /// Returns true for a key that other kinds have and this one has not.
    pub fn is_of_another_kind(&self, kind: &str, key: &str) -> bool {
        let others = || self.kinds.values().any(|own| own.contains_key(key));
        self.kinds
            .get(kind)
            .is_some_and(|own| !own.contains_key(key) && others())
    }

    /// Returns the keys that all kinds have, and those that depend on no kind.
    pub fn common(&self) -> impl Iterator<Item = &String> {
        let of_kind = |key: &&String| self.kinds.values().all(|own| own.contains_key(*key));
        let of_none = |key: &&String| !self.kinds.values().any(|own| own.contains_key(*key));
        self.all
            .keys()
            .filter(move |key| of_kind(key) || of_none(key))
    }
}

/// Name of the key that says which others there are.
pub const KIND: &str = "kind";

/// Returns the names of a schema of unit variants: `enum`, `const`, or `oneOf` of both, where
/// variants have docs.
fn names(schema: &Map<String, Value>) -> Vec<String> {
    let constant = schema.get("const").and_then(Value::as_str);
    let own = strings(schema, "enum").chain(constant.map(str::to_owned));
    let variants = array(schema, "oneOf").filter_map(Value::as_object);
    own.chain(variants.flat_map(names)).collect()
}

/// Returns the values of an array in a schema.
fn array<'a>(schema: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Value> {
    let array = schema.get(key).and_then(Value::as_array);
    array.into_iter().flatten()
}

/// Returns the strings of an array in a schema.
fn strings(schema: &Map<String, Value>, key: &str) -> impl Iterator<Item = String> {
    array(schema, key)
        .filter_map(Value::as_str)
        .map(str::to_owned)
}
