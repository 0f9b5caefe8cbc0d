//! Resolves `${a.b}`, `${oc.env:NAME,default}` and `${now:%Y-%m-%d}` once everything is merged.
//!
//! A value that is one reference takes the target's type, mappings included; inside longer text the
//! target is written out. `\${` is a plain `${`. All references of a process see the same time.

use super::node::{Node, Origin, Value};
use super::suggest::{did_you_mean, nearest};
use super::template::{Piece, pieces};
use super::yaml;
use crate::error::Error;
use std::collections::HashSet;
use std::sync::OnceLock;

/// Says why a reference has no value.
enum Failure {
    /// Is a mistake in the text of the key itself.
    Mistake(Error),
    /// Holds the keys of a circle, the first one again at the end.
    Circle(Vec<String>, Origin),
    /// Is a mistake of another key, which is reported under its own name.
    OtherKey,
}

/// Lists keys by what became of the references in their values.
#[derive(Default)]
pub struct Resolved {
    /// Keys of which a reference failed; their values became `null`.
    pub failed: Vec<Vec<String>>,
    /// Keys whose text came from environment variables, directly or by way of other keys, with the
    /// text as it was written.
    pub environment: Vec<(Vec<String>, String)>,
}

/// Resolves every reference in the tree.
pub fn resolve(root: &mut Node, mistakes: &mut Vec<Error>) -> Resolved {
    let mut pending = Vec::new();
    root.leaves(&mut |path, node| {
        if refers(node) {
            pending.push(path.to_vec());
        }
    });
    let source = root.clone();
    let mut resolved = Resolved::default();
    let mut circles = HashSet::new();
    for path in pending {
        let mut scope = Scope {
            root: &source,
            chain: vec![path.join(".")],
            followed: 0,
            made: 0,
            environment: false,
        };
        let Some(node) = source.get(&path) else {
            continue;
        };
        let value = scope
            .node(node)
            .map(|node| node.value)
            .unwrap_or_else(|failure| {
                report(failure, &mut circles, mistakes);
                resolved.failed.push(path.clone());
                Value::Null
            });
        if let (true, Value::Text(text)) = (scope.environment, &node.value) {
            resolved.environment.push((path.clone(), text.clone()));
        }
        if let Some(node) = root.get_mut(&path) {
            node.value = value;
        }
    }
    resolved
}

/// Reports a failure; a circle is found at each of its keys, and reported once.
fn report(failure: Failure, circles: &mut HashSet<String>, mistakes: &mut Vec<Error>) {
    match failure {
        Failure::Mistake(mistake) => mistakes.push(mistake),
        Failure::Circle(keys, origin) => {
            if !keys.iter().any(|key| circles.contains(key)) {
                let chain: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
                let error = Error::usage("references lead in a circle")
                    .note("chain", chain.join(" → "))
                    .note("set by", origin.to_string());
                mistakes.push(error);
            }
            circles.extend(keys);
        }
        Failure::OtherKey => {}
    }
}

fn refers(node: &Node) -> bool {
    match &node.value {
        Value::Text(text) => text.contains("${"),
        Value::List(items) => items.iter().any(refers),
        Value::Map(map) => map.values().any(refers),
        _ => false,
    }
}

/// Holds the state of resolving one key.
struct Scope<'a> {
    /// The whole tree, its references unresolved.
    root: &'a Node,
    /// Keys being resolved, outermost first.
    chain: Vec<String>,
    /// How many references lead from the first of them to here.
    followed: usize,
    /// Approximate number of bytes of the values made for the first of them.
    made: usize,
    /// Whether one of its references was to the environment.
    environment: bool,
}

/// Number of bytes that a key's references may expand to: keys that each refer twice to the next
/// would fill any memory.
const MOST: usize = 1 << 20;

/// Number of references that may stand within a reference (`${a.${b}}`).
const NESTED: usize = 8;

impl Scope<'_> {
    fn node(&mut self, node: &Node) -> Result<Node, Failure> {
        let value = match &node.value {
            Value::Text(text) if text.contains("${") => self.text(text, &node.origin)?,
            Value::List(items) => {
                let items = items.iter().map(|item| self.node(item));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            Value::Map(map) => {
                let here = self.chain.last().cloned().unwrap_or_default();
                let resolved = map.iter().map(|(key, child)| {
                    let child = self.inside(format!("{here}.{key}"), child)?;
                    Ok((key.clone(), child))
                });
                Value::Map(resolved.collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        };
        Ok(Node::new(value, &node.origin))
    }

    /// Resolves a node under its own name, unless that is being resolved already.
    fn inside(&mut self, name: String, node: &Node) -> Result<Node, Failure> {
        if self.chain.contains(&name) {
            let keys = self.chain.iter().cloned().chain([name]).collect();
            return Err(Failure::Circle(keys, node.origin.clone()));
        }
        self.chain.push(name);
        let resolved = self.node(node);
        self.chain.pop();
        resolved
    }

    fn text(&mut self, text: &str, origin: &Origin) -> Result<Value, Failure> {
        let pieces = pieces(text)
            .map_err(|what| self.mistake(Error::usage(what).note("set by", origin.to_string())))?;
        if let [Piece::Reference(reference)] = pieces.as_slice() {
            return self.reference(reference, origin);
        }
        let mut whole = String::new();
        for piece in pieces {
            match piece {
                Piece::Plain(plain) => whole.push_str(&plain),
                Piece::Reference(reference) => match self.reference(&reference, origin)? {
                    Value::Text(text) | Value::Environment(text) => whole.push_str(&text),
                    value @ (Value::List(_) | Value::Map(_)) => {
                        let what = format!(
                            "`${{{reference}}}` is a {}, which cannot stand inside text",
                            value.described()
                        );
                        return Err(self.failed(what, origin));
                    }
                    value => whole.push_str(&yaml::inline(&value)),
                },
            }
        }
        Ok(Value::Text(whole))
    }

    fn reference(&mut self, reference: &str, origin: &Origin) -> Result<Value, Failure> {
        if reference.matches("${").count() > NESTED {
            let what = format!("more than {NESTED} references stand within one reference");
            return Err(self.failed(what, origin));
        }
        let value = self.value(reference, origin)?;
        self.made += size(&value);
        if self.made > MOST {
            let what = format!("references expand to more than {MOST} bytes");
            return Err(Failure::Mistake(self.error(what, origin)));
        }
        Ok(value)
    }

    fn value(&mut self, reference: &str, origin: &Origin) -> Result<Value, Failure> {
        if reference.contains("${") {
            let inner = self.text(reference, origin)?;
            let (Value::Text(inner) | Value::Environment(inner)) = inner else {
                return Err(self.failed(format!("`${{{reference}}}` does not name a key"), origin));
            };
            // What is resolved once more could lead here again, without end.
            if inner.contains("${") {
                let what = format!("`${{{reference}}}` does not name a key, but `{inner}`");
                return Err(self.failed(what, origin));
            }
            return self.reference(&inner, origin);
        }
        match reference.split_once(':') {
            Some(("oc.env", arguments)) => self.environment(arguments, origin),
            Some(("now", format)) => self.now(format, origin),
            Some((name, _)) => {
                let error = self.error(format!("there is no resolver `{name}`"), origin);
                Err(self.mistake(error.note("available", "oc.env:NAME,default and now:FORMAT")))
            }
            None => self.key(reference, origin),
        }
    }

    fn key(&mut self, key: &str, origin: &Origin) -> Result<Value, Failure> {
        if key.starts_with('.') {
            let what = format!("`${{{key}}}` is relative, which is not supported");
            let error = self.error(what, origin);
            return Err(self.mistake(error.hint("write the whole key, from the top")));
        }
        let path: Vec<_> = key.split('.').collect();
        match self.root.get(&path) {
            Some(node) if node.as_text() == Some("???") => Err(Failure::OtherKey),
            Some(node) => {
                self.followed += 1;
                let resolved = self.inside(key.to_owned(), node);
                self.followed -= 1;
                resolved.map(|node| node.value)
            }
            None => Err(self.mistake(self.no_such_key(key, origin))),
        }
    }

    fn no_such_key(&self, key: &str, origin: &Origin) -> Error {
        let here = self.chain.last().map_or("", String::as_str);
        let mut known = Vec::new();
        self.root.leaves(&mut |path, _| known.push(path.join(".")));
        known.retain(|known| known != here);
        let error = Error::usage(format!("`${{{key}}}` refers to a key that does not exist"))
            .note("chain", format!("`{here}` → `{key}`"))
            .note("set by", origin.to_string());
        did_you_mean(error, nearest(key, &known).map(|key| format!("${{{key}}}")))
    }

    fn environment(&mut self, arguments: &str, origin: &Origin) -> Result<Value, Failure> {
        self.environment = true;
        let (name, default) = match arguments.split_once(',') {
            Some((name, default)) => (name.trim(), Some(default.trim())),
            None => (arguments.trim(), None),
        };
        if let Ok(text) = std::env::var(name) {
            return Ok(Value::Environment(text));
        }
        match default {
            Some("null") => Ok(Value::Null),
            Some(text) => Ok(Value::Environment(unquoted(text).to_owned())),
            None => {
                let what = format!("the environment variable `{name}` is not set");
                let hint = format!("set it, or give a default: ${{oc.env:{name},DEFAULT}}");
                Err(self.mistake(self.error(what, origin).hint(hint)))
            }
        }
    }

    fn now(&mut self, format: &str, origin: &Origin) -> Result<Value, Failure> {
        static NOW: OnceLock<jiff::Zoned> = OnceLock::new();
        let now = NOW.get_or_init(jiff::Zoned::now);
        jiff::fmt::strtime::format(format, now)
            .map(Value::Text)
            .map_err(|error| {
                let what = format!("`${{now:{format}}}` is not a time format: {error}");
                self.failed(what, origin)
            })
    }

    fn error(&self, what: String, origin: &Origin) -> Error {
        let key = self.chain.last().map_or("", String::as_str);
        Error::usage(what)
            .note("key", format!("`{key}`"))
            .note("set by", origin.to_string())
    }

    fn failed(&self, what: String, origin: &Origin) -> Failure {
        self.mistake(self.error(what, origin))
    }

    /// Returns the failure of a mistake; one in another key's text is reported with that key.
    fn mistake(&self, error: Error) -> Failure {
        match self.followed {
            0 => Failure::Mistake(error),
            _ => Failure::OtherKey,
        }
    }
}

/// Returns the approximate number of bytes that a value takes.
fn size(value: &Value) -> usize {
    const NODE: usize = 16;
    NODE + match value {
        Value::Text(text) | Value::Environment(text) => text.len(),
        Value::List(items) => items.iter().map(|item| size(&item.value)).sum(),
        Value::Map(map) => map
            .iter()
            .map(|(key, child)| key.len() + size(&child.value))
            .sum(),
        _ => 0,
    }
}

fn unquoted(text: &str) -> &str {
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('\'').or_else(|| inside('"')).unwrap_or(text)
}
