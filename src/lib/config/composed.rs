//! Holds a finished configuration and who set each part of it.

use super::choices::{Chosen, Expansion};
use super::node::{Node, Value};
use super::schema::Config;
use super::shape::{self, Shape, Takes};
use super::template::escape;
use super::yaml;
use figment::Figment;
use figment::value::Value as FigmentValue;

/// Holds one job's configuration: the typed settings, and who set what.
#[derive(Clone, Debug)]
pub struct Composed {
    /// The typed settings.
    pub config: Config,
    /// The overrides of the command line, a sweep's values filled in.
    pub overrides: Vec<String>,
    /// The option of every group that is chosen.
    pub choices: Vec<Chosen>,
    /// The files in merge order, each with who asked for it.
    files: Vec<(String, String)>,
    /// All values, each tagged with who set it.
    figment: Figment,
    /// Texts that came from environment variables, as they were written: key and text.
    environment: Vec<(Vec<String>, String)>,
}

impl Composed {
    pub(super) fn new(
        config: Config,
        figment: Figment,
        expansion: Expansion,
        overrides: Vec<String>,
    ) -> Self {
        let files = expansion.parts.iter().map(|part| {
            let asked = match &part.origin {
                Some(origin) => format!("chosen by {origin}"),
                None => "the primary file".into(),
            };
            (part.file.to_string(), asked)
        });
        Self {
            config,
            overrides,
            files: files.collect(),
            choices: expansion.choices,
            figment,
            environment: Vec::new(),
        }
    }

    /// Returns the same with the texts that came from environment variables, of which those of
    /// numbers and the like are no secrets.
    pub(super) fn with_environment(mut self, environment: Vec<(Vec<String>, String)>) -> Self {
        let is_text = |path: &[String]| {
            let shape = shape::config().get(path);
            shape.is_some_and(|shape| matches!(shape.takes, Takes::Text | Takes::Path))
        };
        self.environment = environment;
        self.environment.retain(|(path, _)| is_text(path));
        self
    }

    /// Returns true if the config depends on environment variables.
    pub fn has_environment(&self) -> bool {
        !self.environment.is_empty()
    }

    /// Returns `config`, this one as JSON, with the references to environment variables in place of
    /// their values, which may be secret: as runs record it.
    pub fn recorded(&self, mut config: serde_json::Value) -> serde_json::Value {
        for (path, text) in &self.environment {
            let pointer = format!("/{}", path.join("/"));
            if let Some(value) = config
                .pointer_mut(&pointer)
                .filter(|value| value.is_string())
            {
                *value = text.as_str().into();
            }
        }
        config
    }

    /// Returns what [`to_yaml`](Self::to_yaml) does, with references to environment variables in
    /// place of their values.
    pub fn to_recorded_yaml(&self) -> String {
        self.yaml(&|_| true, &|_| None, &self.environment)
    }

    /// Returns who set a key: ``command line `a.b=1` ``, `config/teacher/x.yaml:6`, `built-in
    /// default`. For a mapping it names all who set a key below it.
    pub fn set_by(&self, dotted_key: &str) -> String {
        set_by(&self.figment, dotted_key)
    }

    /// Returns true if a file or the command line set a key.
    pub fn is_set(&self, dotted_key: &str) -> bool {
        self.set_by(dotted_key) != BUILT_IN
    }

    /// Returns the keys at the top that are `shown`, with all that is below them, in schema order
    /// and references resolved. As a config file of its own it composes to the same values.
    pub fn to_yaml(&self, shown: &dyn Fn(&str) -> bool) -> String {
        self.yaml(shown, &|_| None, &[])
    }

    /// Returns the same with who set it behind every key.
    pub fn to_annotated_yaml(&self, shown: &dyn Fn(&str) -> bool) -> String {
        self.yaml(shown, &|key| Some(self.set_by(key)), &[])
    }

    /// Returns the same with what each key takes and means behind it.
    pub fn to_described_yaml(&self, shown: &dyn Fn(&str) -> bool) -> String {
        let describe = |key: &str| {
            let path: Vec<&str> = key.split('.').collect();
            shape::config().get(&path).map(Shape::words)
        };
        self.yaml(shown, &describe, &[])
    }

    fn yaml(
        &self,
        shown: &dyn Fn(&str) -> bool,
        comment: &dyn Fn(&str) -> Option<String>,
        unresolved: &[(Vec<String>, String)],
    ) -> String {
        match Node::built_in(&self.config) {
            Ok(mut node) => {
                if let Value::Map(keys) = &mut node.value {
                    keys.retain(|key, _| shown(key));
                }
                let mut node = escaped(node);
                for (path, text) in unresolved {
                    if let Some(node) = node.get_mut(path) {
                        node.value = Value::Text(text.clone());
                    }
                }
                yaml::write(&node, comment)
            }
            // Composing has serialised this very value before.
            Err(error) => format!("# {error}\n"),
        }
    }

    /// Lists the files in merge order, and who asked for each.
    pub fn defaults_table(&self) -> String {
        let files = self.files.iter();
        let width = files.clone().map(|(file, _)| file.len()).max().unwrap_or(0);
        let files = files.map(|(file, asked)| (file.as_str(), asked));
        let arguments = self.overrides.iter().map(|text| ("command line", text));
        let title = "# Merged in this order, later wins.\n".to_owned();
        files.chain(arguments).fold(title, |table, (file, asked)| {
            table + &format!("{file:width$}  {asked}\n")
        })
    }
}

/// Name of the provider of built-in defaults, as [`Origin`](super::node::Origin) displays it.
const BUILT_IN: &str = "built-in default";

/// Returns who set a key, see [`Composed::set_by`].
pub(super) fn set_by(figment: &Figment, dotted_key: &str) -> String {
    let mut names = Vec::new();
    if let Ok(value) = figment.find_value(dotted_key) {
        collect(figment, &value, &mut names);
    }
    if names.is_empty() {
        return BUILT_IN.into();
    }
    if names.len() > 1 {
        names.retain(|name| name != BUILT_IN);
    }
    names.join(", ")
}

fn collect(figment: &Figment, value: &FigmentValue, names: &mut Vec<String>) {
    if let FigmentValue::Dict(_, map) = value
        && !map.is_empty()
    {
        return map
            .values()
            .for_each(|child| collect(figment, child, names));
    }
    if let Some(metadata) = figment.get_metadata(value.tag()) {
        let name = metadata.name.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

/// Escapes text that would be read as a reference when the file is read again.
fn escaped(node: Node) -> Node {
    let value = match node.value {
        Value::Text(text) => Value::Text(escape(&text)),
        Value::List(items) => Value::List(items.into_iter().map(escaped).collect()),
        Value::Map(map) => Value::Map(
            map.into_iter()
                .map(|(key, node)| (key, escaped(node)))
                .collect(),
        ),
        other => other,
    };
    Node::new(value, &node.origin)
}
