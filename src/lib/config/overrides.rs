//! Parses one override of the command line into sign, key and value. Whether the key names a group
//! is decided where the config tree is known.

use super::grammar::{self, Parsed};
use super::node::Origin;
use crate::error::{Error, Result};

/// Says what an override does, by the characters in front of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Sets a key (`a=v`).
    Set,
    /// Sets a key that nobody has set (`+a=v`).
    Add,
    /// Sets a key in any case (`++a=v`).
    Force,
    /// Takes a key back (`~a` and `~a=v`).
    Delete,
}

impl Sign {
    fn split(argument: &str) -> (Self, &str) {
        for (prefix, sign) in [("++", Self::Force), ("+", Self::Add), ("~", Self::Delete)] {
            if let Some(rest) = argument.strip_prefix(prefix) {
                return (sign, rest);
            }
        }
        (Self::Set, argument)
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Set => "",
            Self::Add => "+",
            Self::Force => "++",
            Self::Delete => "~",
        }
    }
}

/// Holds a parsed override.
#[derive(Clone, Debug)]
pub struct Override {
    pub sign: Sign,
    /// Full key, `a.b.c`, or the name of a group.
    pub key: String,
    /// Text behind `=`, as typed.
    pub raw: String,
    /// Value behind `=`; `None` for `~a`.
    pub value: Option<Parsed>,
    pub origin: Origin,
}

impl Override {
    /// Parses an argument.
    ///
    /// # Errors
    /// Fails when the argument is no override or its value cannot be read.
    pub fn parse(argument: &str) -> Result<Self> {
        let origin = Origin::Argument(argument.into());
        let (sign, rest) = Sign::split(argument);
        let (key, raw) = match rest.split_once('=') {
            Some((key, raw)) => (key.trim(), Some(raw)),
            None => (rest.trim(), None),
        };
        check_key(key, argument)?;
        if raw.is_none() && sign != Sign::Delete {
            let hint = match key {
                "help" | "version" => format!("`--{key}` prints it"),
                _ => format!("to set `{key}` type `{argument}=VALUE`"),
            };
            return Err(Error::usage(format!("`{argument}` is not an override"))
                .note("expected", "key=value, +group=option, ++key=value or ~key")
                .hint(hint));
        }
        let parse = |raw: &str| {
            grammar::parse(raw, &origin).map_err(|message| {
                Error::usage(format!("cannot read the value of `{key}`: {message}"))
                    .note("from", origin.to_string())
                    .hint(format!(
                        "for text as it stands type \"{}{key}='…'\"",
                        sign.prefix()
                    ))
            })
        };
        let value = raw.map(parse).transpose()?;
        Ok(Self {
            sign,
            key: key.to_owned(),
            raw: raw.unwrap_or("").trim().to_owned(),
            value,
            origin,
        })
    }

    /// Returns every argument that a sweep makes of this one.
    pub fn expanded(&self) -> Vec<String> {
        match (&self.value, &self.origin) {
            (Some(Parsed::Many(values)), _) => values
                .iter()
                .map(|raw| format!("{}{}={raw}", self.sign.prefix(), self.key))
                .collect(),
            (_, Origin::Argument(text)) => vec![text.to_string()],
            _ => Vec::new(),
        }
    }

    /// Returns the key's parts.
    pub fn path(&self) -> Vec<String> {
        self.key.split('.').map(str::to_owned).collect()
    }
}

/// Number of parts of a key beyond which it is none: keys are walked by recursion.
const MOST_PARTS: usize = 32;

fn check_key(key: &str, argument: &str) -> Result<()> {
    let error =
        |what: String| Error::usage(what).note("from", format!("command line `{argument}`"));
    if key.is_empty() {
        return Err(error(format!("`{argument}` names no key")).note("expected", "key=value"));
    }
    if key.contains('[') {
        let whole = key.split('[').next().unwrap_or(key);
        return Err(error(format!(
            "`{key}` points into a list, which cannot be changed in part"
        ))
        .hint(format!("set the whole list: {whole}=[…]")));
    }
    if key.contains('@') {
        return Err(
            error(format!("`{key}` names a package, which is not supported"))
                .hint("a group's content always stands under the group's own name"),
        );
    }
    let fits = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || "_-/".contains(c))
    };
    if key.split('.').count() > MOST_PARTS {
        let start: String = key.chars().take(40).collect();
        return Err(Error::usage(format!(
            "`{start}…` has more than {MOST_PARTS} parts, which no key has"
        ))
        .note("from", "the command line"));
    }
    if !key.split('.').all(fits) {
        return Err(error(format!("`{key}` is not a key"))
            .note("expected", "names joined by points: a.b.c=value"));
    }
    Ok(())
}
