//! Compares the merged tree with the shape of the config: types, names and ranges. All that is
//! wrong is found in one pass, before the tree becomes a typed struct.

use super::issue::Issue;
use super::node::{Node, Origin, Value};
use super::shape::{KIND, Keys, Shape, Takes};
use super::suggest::{list, nearest};
use super::{scalar, yaml};

/// Reports every value that a key does not take. Text of environment variables becomes what it
/// spells where that is wanted, and whole numbers become floating-point ones.
pub fn validate(root: &mut Node, shape: &Shape, issues: &mut Vec<Issue>) {
    let origin = root.origin.clone();
    Walk { issues, origin }.value(root, shape, "");
}

struct Walk<'a> {
    issues: &'a mut Vec<Issue>,
    /// Who set the key that is looked at.
    origin: Origin,
}

impl Walk<'_> {
    fn value(&mut self, node: &mut Node, shape: &Shape, name: &str) {
        if let (Value::Environment(text), Takes::Flag | Takes::Whole(_) | Takes::Number) =
            (&node.value, &shape.takes)
        {
            match scalar::read(text.trim()) {
                Value::Text(_) => {}
                typed => node.value = typed,
            }
        }
        if shape.nullable && node.value == Value::Null {
            return;
        }
        if let (Takes::Number, Value::Int(whole)) = (&shape.takes, &node.value) {
            node.value = Value::Float(*whole as f64);
        }
        match (&shape.takes, &mut node.value) {
            (Takes::Keys(keys), Value::Map(map)) => {
                let kind = map.get(KIND).and_then(Node::as_text).map(str::to_owned);
                for (key, node) in map {
                    if let Some(shape) = keys.of(kind.as_deref(), key) {
                        let name = match name {
                            "" => key.clone(),
                            name => format!("{name}.{key}"),
                        };
                        self.origin = node.origin.clone();
                        self.value(node, shape, &name);
                    }
                }
            }
            (Takes::List(items, length), Value::List(list)) => match length {
                Some(length) if list.len() != *length => {
                    let words = format!("a list of {length} values");
                    self.wrong(name, &words, node);
                }
                _ if list.is_empty() && shape.range.is_some() => {
                    self.report(Issue::new(format!("`{name}` must not be an empty list")));
                }
                _ => {
                    let range = shape.range.clone();
                    let items = Shape {
                        range,
                        ..(**items).clone()
                    };
                    for (index, node) in list.iter_mut().enumerate() {
                        self.item(node, &items, &format!("{name}[{index}]"));
                    }
                }
            },
            (Takes::Names(names), _) => {
                if !node
                    .as_text()
                    .is_some_and(|text| names.iter().any(|name| name == text))
                {
                    self.name(name, names, node);
                }
            }
            (Takes::Text | Takes::Path, Value::Text(_) | Value::Environment(_))
            | (Takes::Flag, Value::Bool(_)) => {}
            (Takes::Whole(_) | Takes::Number, _) => self.number(node, shape, name),
            (Takes::Keys(keys), _) => self.no_mapping(name, keys, node),
            (Takes::List(..), value) => {
                let hint = format!("for a list type {name}=[{}]", yaml::inline(value));
                self.report(must(name, "a list", node).hint(Some(hint)));
            }
            (Takes::Text | Takes::Path, value) => {
                let hint = format!("put it in quotes: {name}=\"'{}'\"", yaml::inline(value));
                self.report(must(name, "a string", node).hint(Some(hint)));
            }
            (Takes::Flag, _) => self.wrong(name, "true or false", node),
        }
    }

    /// An item of a list, which may be a mapping with keys of its own.
    fn item(&mut self, node: &mut Node, shape: &Shape, name: &str) {
        if let (Some(keys), Value::Map(map)) = (shape.keys(), &node.value)
            && let Some(unknown) = map.keys().find(|key| !keys.contains_key(*key))
        {
            let known: Vec<&String> = keys.keys().collect();
            let hint = nearest(unknown, &known).map(|key| format!("did you mean `{key}`?"));
            let issue = Issue::new(format!("unknown key `{name}.{unknown}`"));
            let issue = issue.note("set by", self.origin.to_string());
            return self
                .issues
                .push(issue.note("available", list(&known)).hint(hint));
        }
        self.value(node, shape, name);
    }

    fn number(&mut self, node: &Node, shape: &Shape, name: &str) {
        let number = match node.value {
            Value::Int(whole) => whole as f64,
            Value::Float(number) => number,
            _ => f64::NAN,
        };
        let range = shape.range.as_ref();
        let signed = match shape.takes {
            Takes::Whole(signed) => signed,
            _ if number.is_finite() => true,
            _ => {
                let is_number = matches!(node.value, Value::Float(_));
                let words = if is_number {
                    "a finite number"
                } else {
                    "a number"
                };
                return self.wrong(name, words, node);
            }
        };
        if let Some(range) = range.filter(|range| !number.is_nan() && !range.holds(number)) {
            return self.wrong(name, &range.words(), node);
        }
        let fits = match node.value {
            Value::Int(whole) if signed => i64::try_from(whole).is_ok(),
            Value::Int(whole) => u64::try_from(whole).is_ok(),
            _ => matches!(shape.takes, Takes::Number),
        };
        if !fits {
            let range = range.map(|range| range.words());
            let range = range.or((!signed).then(|| "0 or more".into()));
            let words = match range {
                Some(range) => format!("a whole number, {range}"),
                None => "a whole number".into(),
            };
            self.wrong(name, &words, node);
        }
    }

    fn name(&mut self, name: &str, names: &[String], node: &Node) {
        let hint = node.as_text().and_then(|word| nearest(word, names));
        let issue = must(name, "one of the available names", node);
        let issue = issue
            .note("set by", self.origin.to_string())
            .note("available", list(names));
        self.issues
            .push(issue.hint(hint.map(|name| format!("did you mean `{name}`?"))));
    }

    fn no_mapping(&mut self, name: &str, keys: &Keys, node: &Node) {
        let issue = must(name, "a mapping of keys", node).note("set by", self.origin.to_string());
        let issue = issue.note("available", list(&keys.all.keys().collect::<Vec<_>>()));
        // A bare name most often says which kind.
        let kind = node.as_text().filter(|_| keys.all.contains_key(KIND));
        self.issues
            .push(issue.hint(kind.map(|kind| format!("did you mean `{name}.{KIND}={kind}`?"))));
    }

    fn wrong(&mut self, name: &str, words: &str, node: &Node) {
        self.report(must(name, words, node));
    }

    fn report(&mut self, issue: Issue) {
        self.issues
            .push(issue.note("set by", self.origin.to_string()));
    }
}

fn must(name: &str, words: &str, node: &Node) -> Issue {
    Issue::new(format!(
        "`{name}` must be {words}, found {}",
        node.value.described()
    ))
}
