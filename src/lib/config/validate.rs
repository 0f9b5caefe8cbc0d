//! Compares the merged tree with the shape of the config: types, names, ranges, and keys that the
//! `kind` of their group does not have. All that is wrong is found in one pass, before the tree
//! becomes a typed struct.

use super::kinds::choose;
use super::node::{Node, Origin, Value};
use super::shape::{KIND, Keys, Shape, Takes};
use super::suggest::{did_you_mean, list, nearest};
use super::{home, scalar, yaml};
use crate::error::Error;
use indexmap::IndexMap;

/// Reports every value that a key does not take, and leaves the keys of each group's own kind.
/// Text of environment variables becomes what it spells where that is wanted, and whole numbers
/// become floating-point ones. `built_in` is the default of the whole config.
pub fn validate(root: &mut Node, shape: &Shape, built_in: &Node, mistakes: &mut Vec<Error>) {
    let origin = root.origin.clone();
    let mut walk = Walk {
        mistakes,
        built_in,
        origin,
    };
    walk.value(root, shape, "");
}

/// Holds the state of a walk through the tree.
struct Walk<'a> {
    /// Mistakes found so far.
    mistakes: &'a mut Vec<Error>,
    /// Default of the whole config.
    built_in: &'a Node,
    /// Who set the key that is looked at.
    origin: Origin,
}

impl Walk<'_> {
    fn value(&mut self, node: &mut Node, shape: &Shape, name: &str) {
        coerce(node, &shape.takes);
        if shape.nullable && node.value == Value::Null {
            return;
        }
        // What is empty came from an unset variable of the shell, most often.
        if let (Takes::Path, Some(text)) = (&shape.takes, node.as_text()) {
            match home::expanded(name, text) {
                Ok(path) if path.is_empty() => {
                    let error = Error::usage(format!("`{name}` must not be empty"));
                    self.report(error.hint(format!("`{name}=null` leaves it out")));
                }
                Ok(path) => node.value = Value::Text(path),
                Err(error) => self.report(error),
            }
            return;
        }
        match (&shape.takes, &mut node.value) {
            (Takes::Keys(keys), Value::Map(map)) => self.map(map, keys, name),
            (Takes::List(_, Some(length)), Value::List(list)) if list.len() != *length => {
                self.wrong(name, &format!("a list of {length} values"), node);
            }
            (Takes::List(..), Value::List(list)) if list.is_empty() && shape.range.is_some() => {
                self.report(Error::usage(format!("`{name}` must not be an empty list")));
            }
            (Takes::Text, Value::Text(text)) if text.is_empty() && shape.range.is_some() => {
                self.report(Error::usage(format!("`{name}` must not be empty")));
            }
            (Takes::List(items, _), Value::List(list)) => {
                let items = Shape {
                    range: shape.range.clone(),
                    ..(**items).clone()
                };
                for (index, node) in list.iter_mut().enumerate() {
                    // Names such as those of digits: `[0, 1, 2]`.
                    if let (Takes::Text, Value::Int(whole)) = (&items.takes, &node.value) {
                        node.value = Value::Text(whole.to_string());
                    }
                    self.item(node, &items, &format!("{name}[{index}]"));
                }
            }
            (Takes::Names(names), _) => self.name(name, names, node),
            (Takes::Text, Value::Text(_) | Value::Environment(_))
            | (Takes::Flag, Value::Bool(_)) => {}
            (Takes::Whole(_) | Takes::Number, _) => self.number(node, shape, name),
            (Takes::Keys(keys), _) => self.no_mapping(name, keys, node),
            (Takes::List(..), value) => {
                let hint = format!("for a list type {name}=[{}]", yaml::inline(value));
                self.report(must(name, "a list", node).hint(hint));
            }
            (Takes::Text | Takes::Path, value) => {
                let hint = format!("put it in quotes: {name}=\"'{}'\"", yaml::inline(value));
                self.report(must(name, "a string", node).hint(hint));
            }
            (Takes::Flag, _) => self.wrong(name, "true or false", node),
        }
    }

    fn map(&mut self, map: &mut IndexMap<String, Node>, keys: &Keys, name: &str) {
        let built_in = self.built_in.get(&name.split('.').collect::<Vec<_>>());
        choose(map, keys, name, built_in, self.mistakes);
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

    /// Checks an item of a list, which may be a mapping with keys of its own.
    fn item(&mut self, node: &mut Node, shape: &Shape, name: &str) {
        if let (Some(keys), Value::Map(map)) = (shape.keys(), &node.value)
            && let Some(unknown) = map.keys().find(|key| !keys.contains_key(*key))
        {
            let known: Vec<&String> = keys.keys().collect();
            let error = Error::usage(format!("unknown key `{name}.{unknown}`"))
                .note("set by", self.origin.to_string())
                .note("available", list(&known));
            return self
                .mistakes
                .push(did_you_mean(error, nearest(unknown, &known)));
        }
        self.value(node, shape, name);
    }

    fn number(&mut self, node: &Node, shape: &Shape, name: &str) {
        let (number, is_number) = match node.value {
            Value::Int(whole) => (whole as f64, true),
            Value::Float(number) => (number, true),
            _ => (f64::NAN, false),
        };
        let fits = match (&shape.takes, &node.value) {
            (Takes::Whole(true), Value::Int(whole)) => i64::try_from(*whole).is_ok(),
            (Takes::Whole(false), Value::Int(whole)) => u64::try_from(*whole).is_ok(),
            (takes, _) => matches!(takes, Takes::Number) && number.is_finite(),
        };
        let range = shape.range.as_ref();
        let outside = range.filter(|range| !number.is_nan() && !range.holds(number));
        let words = match (&shape.takes, outside) {
            (Takes::Number, _) if !fits && is_number => "a finite number".into(),
            (Takes::Number, _) if !fits => "a number".into(),
            (_, Some(range)) => range.words(),
            _ if fits => return,
            (takes, None) => match (range, takes) {
                (Some(range), _) => format!("a whole number, {}", range.words()),
                (None, Takes::Whole(false)) => "a whole number, 0 or more".into(),
                (None, _) => "a whole number".into(),
            },
        };
        self.wrong(name, &words, node);
    }

    fn name(&mut self, name: &str, names: &[String], node: &Node) {
        let word = node.as_text();
        if word.is_some_and(|word| names.iter().any(|name| name == word)) {
            return;
        }
        let error = must(name, "one of the available names", node)
            .note("set by", self.origin.to_string())
            .note("available", list(names));
        let meant = word.and_then(|word| nearest(word, names));
        self.mistakes.push(did_you_mean(error, meant));
    }

    fn no_mapping(&mut self, name: &str, keys: &Keys, node: &Node) {
        let error = must(name, "a mapping of keys", node)
            .note("set by", self.origin.to_string())
            .note("available", list(&keys.all.keys().collect::<Vec<_>>()));
        // A bare name most often says which kind.
        let kinds = match keys.all.get(KIND).map(|kind| &kind.takes) {
            Some(Takes::Names(names)) => names.as_slice(),
            _ => &[],
        };
        let word = node.as_text();
        let error = match word.filter(|word| kinds.iter().any(|kind| kind == word)) {
            Some(kind) => did_you_mean(error, Some(format!("{name}.{KIND}={kind}"))),
            None => error.hint(format!("type its keys: {name}=\"{{KEY: VALUE, …}}\"")),
        };
        self.mistakes.push(error);
    }

    fn wrong(&mut self, name: &str, words: &str, node: &Node) {
        self.report(must(name, words, node));
    }

    fn report(&mut self, error: Error) {
        self.mistakes
            .push(error.note("set by", self.origin.to_string()));
    }
}

/// Gives a value the type that is wanted, where it spells one.
fn coerce(node: &mut Node, takes: &Takes) {
    if let (Value::Environment(text), Takes::Flag | Takes::Whole(_) | Takes::Number) =
        (&node.value, takes)
    {
        match scalar::read(text.trim()) {
            Value::Text(_) => {}
            typed => node.value = typed,
        }
    }
    match (takes, &node.value) {
        (Takes::Number, Value::Int(whole)) => node.value = Value::Float(*whole as f64),
        // `1.0` and `1e3`; beyond 2⁵³ the digits typed are not those of the number.
        (Takes::Whole(_), Value::Float(number)) if number.fract() == 0.0 && number.abs() < 9e15 => {
            node.value = Value::Int(*number as i128);
        }
        _ => {}
    }
}

fn must(name: &str, words: &str, node: &Node) -> Error {
    Error::usage(format!(
        "`{name}` must be {words}, found {}",
        node.value.described()
    ))
}
