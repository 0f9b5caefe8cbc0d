//! Reads Python pickles as data. Nothing is imported or called: a name stays a name, and a call
//! stays a call of something with some arguments, which whoever knows the format recognises.
//!
//! Called by `pytorch` for state dicts, and by the reader of CIFAR for its batches. All objects lie
//! in one list and refer to each other by index, and texts and bytes are parts of the pickle
//! itself. So neither depth nor cycles matter, and memory grows with the length of the pickle only,
//! whatever it repeats.

mod machine;

use crate::{Error, Result};
use machine::Machine;
use std::borrow::Cow;

/// Bytes of the longest name: of a tensor, of a key or of a class.
pub(crate) const LONGEST_NAME: usize = 4096;

/// Index of an object.
pub(crate) type Ref = usize;

/// Holds an object that the pickle built.
#[derive(Debug)]
pub(crate) enum Object<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'a str),
    /// Bytes, or a string of Python 2.
    Bytes(&'a [u8]),
    Tuple(Vec<Ref>),
    List(Vec<Ref>),
    Set,
    Dict(Vec<(Ref, Ref)>),
    /// A class or a function: its module and its name.
    Global(&'a str, &'a str),
    /// Something outside the pickle, which the object describes.
    Persistent(Ref),
    /// The result of a call, and the state that it was given afterwards. Items that a pickle adds
    /// to such an object are dropped.
    Call {
        function: Ref,
        arguments: Ref,
        state: Option<Ref>,
    },
}

/// Holds all objects of a pickle.
pub(crate) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    pub root: Ref,
}

impl<'a> Pickle<'a> {
    /// Runs the machine over `bytes` up to the stop.
    ///
    /// # Errors
    /// Fails when the pickle is damaged, or uses an operation that is not read.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        Self::parse_within(bytes, usize::MAX)
    }

    /// Does the same for a pickle of at most so many operations, each of which takes some 50 bytes
    /// of memory: a pickle of one large array has few.
    ///
    /// # Errors
    /// Fails as [`parse`](Self::parse) does, and when there are more operations.
    pub fn parse_within(bytes: &'a [u8], operations: usize) -> Result<Self> {
        let (objects, root) = Machine::new(bytes).run(operations)?;
        Ok(Self { objects, root })
    }

    /// Returns an object.
    pub fn object(&self, at: Ref) -> &Object<'a> {
        &self.objects[at]
    }

    /// Returns a string; one of Python 2 as well, if it is UTF-8 and no longer than a name: that is
    /// found out at each call, of which there may be many for one object.
    pub fn text(&self, at: Ref) -> Option<&'a str> {
        match *self.object(at) {
            Object::Text(text) => Some(text),
            Object::Bytes(bytes) if bytes.len() <= LONGEST_NAME => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Returns an integer.
    pub fn int(&self, at: Ref) -> Option<i64> {
        match *self.object(at) {
            Object::Int(number) => Some(number),
            _ => None,
        }
    }

    /// Returns a truth value.
    pub fn truth(&self, at: Ref) -> Option<bool> {
        match *self.object(at) {
            Object::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// Returns bytes. Python 3 writes them in protocol 2 as `_codecs.encode(text, 'latin1')`.
    pub fn bytes(&self, at: Ref) -> Option<Cow<'a, [u8]>> {
        if let Object::Bytes(bytes) = *self.object(at) {
            return Some(Cow::Borrowed(bytes));
        }
        if let Some((("__builtin__", "bytes"), [])) = self.call(at) {
            return Some(Cow::Borrowed(&[]));
        }
        let characters = self.encoded(at)?.chars();
        let bytes = characters.map(|c| u8::try_from(u32::from(c)).ok());
        bytes.collect::<Option<Vec<u8>>>().map(Cow::Owned)
    }

    /// Returns the text that `_codecs.encode` makes bytes of.
    fn encoded(&self, at: Ref) -> Option<&'a str> {
        let (("_codecs", "encode"), &[text, codec]) = self.call(at)? else {
            return None;
        };
        let is_latin1 = matches!(self.text(codec)?, "latin1" | "latin-1");
        self.text(text).filter(|_| is_latin1)
    }

    /// Returns the items of a tuple.
    pub fn tuple(&self, at: Ref) -> Option<&[Ref]> {
        match self.object(at) {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the items of a list.
    pub fn list(&self, at: Ref) -> Option<&[Ref]> {
        match self.object(at) {
            Object::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the keys and values of a dict, in order.
    pub fn dict(&self, at: Ref) -> Option<&[(Ref, Ref)]> {
        match self.object(at) {
            Object::Dict(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the value of a dict's key, be it a string or bytes.
    pub fn get(&self, dict: Ref, key: &str) -> Option<Ref> {
        // Of a long one, which many entries may share, nothing is decoded.
        let is_long = |text: &str| text.len() > 2 * key.len();
        let is_key = |name: Ref| {
            self.text(name) == Some(key)
                || !self.encoded(name).is_some_and(is_long)
                    && self
                        .bytes(name)
                        .is_some_and(|name| *name == *key.as_bytes())
        };
        let mut items = self.dict(dict)?.iter();
        items
            .find(|(name, _)| is_key(*name))
            .map(|&(_, value)| value)
    }

    /// Returns the module and name of a class or function.
    pub fn global(&self, at: Ref) -> Option<(&'a str, &'a str)> {
        match *self.object(at) {
            Object::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// Returns what a call calls, by module and name, and its arguments.
    pub fn call(&self, at: Ref) -> Option<((&'a str, &'a str), &[Ref])> {
        match *self.object(at) {
            Object::Call {
                function,
                arguments,
                ..
            } => Some((self.global(function)?, self.tuple(arguments)?)),
            _ => None,
        }
    }

    /// Returns the state that an object was given after the call that made it.
    pub fn state(&self, at: Ref) -> Option<Ref> {
        match *self.object(at) {
            Object::Call { state, .. } => state,
            _ => None,
        }
    }

    /// Names the kind of object for errors: `a list`.
    pub fn describe(&self, at: Ref) -> String {
        match self.object(at) {
            Object::None => "None".into(),
            Object::Bool(_) => "a bool".into(),
            Object::Int(_) => "an integer".into(),
            Object::Float => "a float".into(),
            Object::Text(_) => "a string".into(),
            Object::Bytes(_) => "a byte string".into(),
            Object::Tuple(_) => "a tuple".into(),
            Object::List(_) => "a list".into(),
            Object::Set => "a set".into(),
            Object::Dict(_) => "a dict".into(),
            Object::Global(module, name) => {
                format!("the name `{}`", shown(module, name))
            }
            Object::Persistent(_) => "a storage".into(),
            Object::Call { .. } => match self.call(at) {
                Some((("torch._utils", _), _)) => "a tensor".into(),
                Some(((module, name), _)) => format!("an object of `{}`", shown(module, name)),
                None => "an object".into(),
            },
        }
    }
}

/// Returns `module.name` with control characters escaped, and no longer than a line.
fn shown(module: &str, name: &str) -> String {
    let name: String = format!("{module}.{name}").chars().take(80).collect();
    name.escape_debug().to_string()
}

/// Returns an error about a pickle that no pickler wrote.
fn broken(why: &str) -> Error {
    Error::failed(format!("the pickle in the file is damaged: {why}"))
}
