//! Reads Python pickles as data. Nothing is imported or called: a name stays a name, and a call
//! stays a call of something with some arguments, which whoever knows the format recognises.
//!
//! Called by `pytorch` for state dicts. All objects lie in one list and refer to each other by
//! index, and texts and bytes are parts of the pickle itself. So neither depth nor cycles matter,
//! and memory grows with the length of the pickle only, whatever it repeats.

mod machine;

use crate::{Error, Result};
use machine::Machine;

/// Index of an object.
pub(super) type Ref = usize;

/// Holds an object that the pickle built.
#[derive(Debug)]
pub(super) enum Object<'a> {
    None,
    Bool,
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
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    pub root: Ref,
}

impl<'a> Pickle<'a> {
    /// Runs the machine over `bytes` up to the stop.
    ///
    /// # Errors
    /// Fails when the pickle is damaged, or uses an operation that is not read.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (objects, root) = Machine::new(bytes).run()?;
        Ok(Self { objects, root })
    }

    /// Returns an object.
    pub fn object(&self, at: Ref) -> &Object<'a> {
        &self.objects[at]
    }

    /// Returns a string; one of Python 2 as well, if it is UTF-8.
    pub fn text(&self, at: Ref) -> Option<&'a str> {
        match *self.object(at) {
            Object::Text(text) => Some(text),
            Object::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
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

    /// Names the kind of object for errors: `a list`.
    pub fn describe(&self, at: Ref) -> String {
        match self.object(at) {
            Object::None => "None".into(),
            Object::Bool => "a bool".into(),
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
