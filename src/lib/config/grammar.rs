//! The grammar of an override's value: `0.1`, `[1, 2]`, `{lr: 0.1}`, `'a, b'`, `${a.b}`, and the sweeps `1,2`, `range(0,3)`, `choice(a,b)`.
//!
//! Unquoted text runs to the next `,` (or closing bracket inside one) and loses the blanks around it; `\` before one of `\,:()[]{}` or a blank
//! takes that character literally. In quotes `\` escapes the quote and itself. `${…}` is taken whole, whatever is inside.

use super::node::{Node, Origin, Value};
use super::scalar;
use indexmap::IndexMap;

/// No setting is nested deeper; without a limit a long row of brackets would exhaust the stack.
const DEEPEST: usize = 32;

/// A parsed value.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    One(Node),
    /// A sweep: each value as it would be typed alone.
    Many(Vec<String>),
}

/// What is wrong with a value, to stand behind `cannot read …: `.
pub type Complaint = String;

/// Reads the text behind the first `=` of an override. `origin` goes to every node.
pub fn parse(text: &str, origin: &Origin) -> Result<Parsed, Complaint> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        origin,
    };
    parser.blanks();
    if parser.peek().is_none() {
        return Ok(Parsed::One(Node::new(Value::Text(String::new()), origin)));
    }
    if let Some((name, inside)) = function(text.trim()) {
        return call(name, inside, origin).map(Parsed::Many);
    }
    let mut elements = parser.elements()?;
    match (elements.len(), elements.pop()) {
        (1, Some((node, _))) => Ok(Parsed::One(node)),
        (_, Some(last)) => {
            elements.push(last);
            Ok(Parsed::Many(elements.into_iter().map(|(_, raw)| raw).collect()))
        }
        (_, None) => Err("it is empty".into()),
    }
}

/// Splits `name(inside)`.
fn function(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('(')?;
    let word = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    word.then_some((name, rest.strip_suffix(')')?))
}

fn call(name: &str, inside: &str, origin: &Origin) -> Result<Vec<String>, Complaint> {
    let mut parser = Parser {
        text: inside,
        at: 0,
        depth: 0,
        origin,
    };
    let arguments = parser.elements()?;
    match name {
        "choice" => Ok(arguments.into_iter().map(|(_, raw)| raw).collect()),
        "range" => {
            let numbers: Option<Vec<_>> = arguments.iter().map(|(node, _)| finite(&node.value)).collect();
            match numbers.as_deref() {
                Some([stop]) => range(0.0, *stop, 1.0),
                Some([start, stop]) => range(*start, *stop, 1.0),
                Some([start, stop, step]) => range(*start, *stop, *step),
                _ => Err("`range` takes numbers: range(start, stop) or range(start, stop, step)".into()),
            }
        }
        _ => Err(format!(
            "there is no function `{name}`; available are choice(a, b, …) and range(start, stop, step)"
        )),
    }
}

fn finite(value: &Value) -> Option<f64> {
    match value {
        Value::Int(whole) => Some(*whole as f64),
        Value::Float(number) if number.is_finite() => Some(*number),
        _ => None,
    }
}

/// From `start` up to but without `stop`, as Python's range.
fn range(start: f64, stop: f64, step: f64) -> Result<Vec<String>, Complaint> {
    /// More jobs than this are a slip of the keyboard.
    const MOST: f64 = 10_000.0;
    let count = ((stop - start) / step - 1e-9).ceil();
    if step == 0.0 || count.is_nan() {
        return Err("the step of `range` must not be 0".into());
    }
    if count < 1.0 {
        return Err("this `range` holds no value".into());
    }
    if count > MOST {
        return Err(format!("this `range` holds {count} values, more than {MOST}"));
    }
    // Twelve digits hide the rounding of `0.1 + 2·0.1`.
    let tidy = |number: f64| format!("{number:.12}").parse().unwrap_or(number);
    Ok((0..count as usize)
        .map(|i| start + i as f64 * step)
        .map(|number| format!("{}", tidy(number)))
        .collect())
}

struct Parser<'a> {
    text: &'a str,
    /// Byte offset of the next character.
    at: usize,
    /// Lists and mappings that are open.
    depth: usize,
    origin: &'a Origin,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn node(&self, value: Value) -> Node {
        Node::new(value, self.origin)
    }

    /// Values separated by commas to the end of the text, each with its source.
    fn elements(&mut self) -> Result<Vec<(Node, String)>, Complaint> {
        let mut elements = Vec::new();
        loop {
            self.blanks();
            let from = self.at;
            let node = self.value(",")?;
            elements.push((node, self.text.get(from..self.at).unwrap_or("").trim().to_owned()));
            match self.next() {
                None => return Ok(elements),
                Some(',') => {}
                Some(other) => return Err(format!("`{other}` is unexpected; put text that holds it in quotes")),
            }
        }
    }

    /// One value; stops before one of `ends` or at the end, with blanks skipped on both sides.
    fn value(&mut self, ends: &str) -> Result<Node, Complaint> {
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

    fn list(&mut self) -> Result<Value, Complaint> {
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

    fn map(&mut self) -> Result<Value, Complaint> {
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

    /// A key and the `:` behind it.
    fn key(&mut self) -> Result<String, Complaint> {
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

    fn quoted(&mut self, quote: char) -> Result<String, Complaint> {
        self.next();
        let mut text = String::new();
        while let Some(c) = self.next() {
            match (c, self.peek()) {
                ('\\', Some(escaped)) if escaped == quote || escaped == '\\' => {
                    text.push(escaped);
                    self.next();
                }
                (c, _) if c == quote => return Ok(text),
                (c, _) => text.push(c),
            }
        }
        Err(format!("the closing {quote} is missing"))
    }

    fn bare(&mut self, ends: &str) -> Result<Value, Complaint> {
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
                        Some(special) if "\\,:()[]{} \t".contains(special) => {
                            text.push(special);
                            self.next();
                            escaped = true;
                        }
                        _ => text.push('\\'),
                    }
                    kept = text.len();
                }
                '$' if self.text.get(self.at..).is_some_and(|rest| rest.starts_with("${")) => {
                    text.push_str(self.reference()?);
                    kept = text.len();
                }
                '(' | ')' | '[' | ']' | '{' | '}' => {
                    return Err(format!("`{c}` is unexpected; put text that holds it in quotes"));
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

    /// `${…}` with everything between the braces, nested ones included.
    fn reference(&mut self) -> Result<&str, Complaint> {
        let from = self.at;
        let mut depth = 0_usize;
        while let Some(c) = self.next() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return Ok(self.text.get(from..self.at).unwrap_or("")),
                '}' => depth -= 1,
                _ => {}
            }
        }
        Err("the closing `}` of `${` is missing".into())
    }
}
