//! Parses values, lists, mappings, quotes and references in one pass over a text.

use super::Message;
use crate::config::node::{Node, Origin, Value};
use crate::config::scalar;
use crate::config::template::closing;
use indexmap::IndexMap;

/// Number of levels that a value may be nested: a long row of brackets would exhaust the stack.
const DEEPEST: usize = 32;

/// Holds the state of parsing a text.
pub struct Parser<'a> {
    text: &'a str,
    /// Byte offset of the next character.
    at: usize,
    /// Number of lists and mappings that are open.
    depth: usize,
    /// Origin that every node gets.
    origin: &'a Origin,
}

impl<'a> Parser<'a> {
    /// Returns a parser at the beginning of a text.
    pub fn new(text: &'a str, origin: &'a Origin) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            origin,
        }
    }

    /// Returns the next character.
    pub fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Skips blanks.
    pub fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn node(&self, value: Value) -> Node {
        Node::new(value, self.origin)
    }

    /// Parses values separated by commas to the end of the text, and returns each with its source.
    pub fn elements(&mut self) -> Result<Vec<(Node, String)>, Message> {
        let mut elements = Vec::new();
        loop {
            self.blanks();
            let from = self.at;
            let node = self.value(",")?;
            elements.push((
                node,
                self.text.get(from..self.at).unwrap_or("").trim().to_owned(),
            ));
            match self.next() {
                None => return Ok(elements),
                Some(',') => {}
                Some(other) => {
                    return Err(format!(
                        "`{other}` is unexpected; put text that holds it in quotes"
                    ));
                }
            }
        }
    }

    /// Parses one value; stops before one of `ends` or at the end, skips blanks on both sides.
    fn value(&mut self, ends: &str) -> Result<Node, Message> {
        if self.depth > DEEPEST {
            return Err(format!("it is nested more than {DEEPEST} deep"));
        }
        self.depth += 1;
        self.blanks();
        let value = match self.peek() {
            Some('[') => self.list()?,
            Some('{') => self.map()?,
            Some(quote @ ('\'' | '"')) => {
                let text = self.quoted(quote)?;
                self.blanks();
                if self.peek().is_some_and(|c| !ends.contains(c)) {
                    return Err(format!("there is text behind the closing {quote}"));
                }
                Value::Text(text)
            }
            _ => self.bare(ends)?,
        };
        self.blanks();
        self.depth -= 1;
        Ok(self.node(value))
    }

    fn list(&mut self) -> Result<Value, Message> {
        self.next();
        let mut items = Vec::new();
        self.blanks();
        if self.peek() == Some(']') {
            self.next();
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(",]")?);
            match self.next() {
                Some(',') => {}
                Some(']') => return Ok(Value::List(items)),
                Some(other) => return Err(format!("`{other}` is unexpected in a list")),
                None => return Err("the closing `]` is missing".into()),
            }
        }
    }

    fn map(&mut self) -> Result<Value, Message> {
        self.next();
        let mut fields = IndexMap::new();
        self.blanks();
        if self.peek() == Some('}') {
            self.next();
            return Ok(Value::Map(fields));
        }
        loop {
            let key = self.key()?;
            let value = self.value(",}")?;
            if fields.insert(key.clone(), value).is_some() {
                return Err(format!("key `{key}` stands twice"));
            }
            match self.next() {
                Some(',') => {}
                Some('}') => return Ok(Value::Map(fields)),
                Some(other) => return Err(format!("`{other}` is unexpected in a mapping")),
                None => return Err("the closing `}` is missing".into()),
            }
        }
    }

    /// Parses a key and the `:` behind it.
    fn key(&mut self) -> Result<String, Message> {
        self.blanks();
        let key = match self.peek() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            _ => {
                let from = self.at;
                while self.peek().is_some_and(|c| !":,{}[]".contains(c)) {
                    self.next();
                }
                self.text.get(from..self.at).unwrap_or("").trim().to_owned()
            }
        };
        self.blanks();
        match (self.next(), key.is_empty()) {
            (Some(':'), false) => Ok(key),
            _ => Err("a mapping is written {key: value, key: value}".into()),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, Message> {
        self.next();
        let mut text = String::new();
        // Backslashes are plain but before a quote, where each two stand for one.
        let mut slashes = 0;
        while let Some(c) = self.next() {
            match c {
                '\\' => slashes += 1,
                c if c == quote => {
                    text.push_str(&"\\".repeat(slashes / 2));
                    if slashes % 2 == 0 {
                        return Ok(text);
                    }
                    text.push(quote);
                    slashes = 0;
                }
                c => {
                    text.push_str(&"\\".repeat(std::mem::take(&mut slashes)));
                    text.push(c);
                }
            }
        }
        Err(format!("the closing {quote} is missing"))
    }

    fn bare(&mut self, ends: &str) -> Result<Value, Message> {
        let mut text = String::new();
        // Length up to the last character that is no blank, or an escaped one.
        let mut kept = 0;
        let mut escaped = false;
        while let Some(c) = self.peek() {
            match c {
                _ if ends.contains(c) => break,
                '\\' => {
                    self.next();
                    match self.peek() {
                        Some(special) if "\\,:=()[]{} \t".contains(special) => {
                            text.push(special);
                            self.next();
                            escaped = true;
                        }
                        _ => text.push('\\'),
                    }
                    kept = text.len();
                }
                '$' if self
                    .text
                    .get(self.at..)
                    .is_some_and(|rest| rest.starts_with("${")) =>
                {
                    text.push_str(self.reference()?);
                    kept = text.len();
                }
                '(' | ')' | '[' | ']' | '{' | '}' => {
                    return Err(format!(
                        "`{c}` is unexpected; put text that holds it in quotes"
                    ));
                }
                _ => {
                    text.push(c);
                    self.next();
                    if !c.is_whitespace() {
                        kept = text.len();
                    }
                }
            }
        }
        text.truncate(kept);
        match (text.is_empty(), escaped) {
            (true, _) => Err("a value is missing".into()),
            (false, true) => Ok(Value::Text(text)),
            (false, false) => Ok(scalar::read(&text)),
        }
    }

    /// Parses `${…}` with everything between the braces, nested ones included.
    fn reference(&mut self) -> Result<&str, Message> {
        let rest = self.text.get(self.at..).unwrap_or("");
        let inside = rest.strip_prefix("${").unwrap_or("");
        let end = closing(inside).ok_or("the closing `}` of `${` is missing")?;
        let whole = "${".len() + end + "}".len();
        self.at += whole;
        Ok(rest.get(..whole).unwrap_or(""))
    }
}
