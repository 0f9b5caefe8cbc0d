//! The error that a user is shown: what failed, where it came from, what is allowed, what to type.
//!
//! Engines, file formats and the config return it. Above them `anyhow::Result` carries it, with
//! contexts that say what was being done; `?` converts both ways, and the contexts become `while`
//! lines.

mod text;

use std::fmt;
use std::io::ErrorKind;

pub use text::{Text, assignment, parameter, unquoted};

/// Holds a value, or the error of what a user, a file or a network can make fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The command line or the configuration is wrong: exit code 2.
    Usage,
    /// A run could not be carried out: exit code 1.
    Failed,
    /// The user pressed Ctrl-C: exit code 130.
    Interrupted,
}

/// Tells what went wrong, with labelled lines (`from: …`, `available: …`) and hints below it.
#[derive(Debug)]
pub struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    class: Class,
    what: Text,
    notes: Vec<(&'static str, Text)>,
    hints: Vec<Text>,
    of_another_rank: bool,
    of_resume: bool,
    source: Option<Source>,
}

/// Holds the error that another one was made from.
type Source = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    fn new(class: Class, what: impl Into<Text>) -> Self {
        Self(Box::new(Parts {
            class,
            what: what.into(),
            notes: Vec::new(),
            hints: Vec::new(),
            of_another_rank: false,
            of_resume: false,
            source: None,
        }))
    }

    /// Returns the error for a mistake in what the user typed or configured.
    pub fn usage(what: impl Into<Text>) -> Self {
        Self::new(Class::Usage, what)
    }

    /// Returns the error for a run that failed: a bad file, a full disk, a network.
    pub fn failed(what: impl Into<Text>) -> Self {
        Self::new(Class::Failed, what)
    }

    /// Returns the error for a run that the user stopped with Ctrl-C.
    pub fn interrupted(what: impl Into<Text>) -> Self {
        Self::new(Class::Interrupted, what)
    }

    /// Adds an indented line `label: text`.
    pub fn note(mut self, label: &'static str, text: impl Into<Text>) -> Self {
        let line = (label, text.into());
        // A file is named where it is read and again by who asked for it: once is enough.
        if !self.0.notes.contains(&line) {
            self.0.notes.push(line);
        }
        self
    }

    /// Adds a `hint:` line: what to type.
    pub fn hint(mut self, text: impl Into<Text>) -> Self {
        let text = text.into();
        if !self.0.hints.contains(&text) {
            self.0.hints.push(text);
        }
        self
    }

    /// Keeps the error that this one was made from, for `source()`. It is not part of the text.
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the error that it was made from, to keep it in another error.
    pub(crate) fn into_source(self) -> Option<Source> {
        self.0.source
    }

    /// Returns the first I/O error among its sources.
    pub(crate) fn io(&self) -> Option<&std::io::Error> {
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref() {
                return Some(io);
            }
            cause = error.source();
        }
        None
    }

    /// Marks the error as that of another rank, which ends the work of this one: what was being
    /// done here is no part of it.
    pub fn of_another_rank(mut self) -> Self {
        self.0.of_another_rank = true;
        self
    }

    /// Marks the refusal to resume, or to keep, what an earlier run left: without `resume=true` the
    /// run would have been refused otherwise, or started again.
    pub fn of_resume(mut self) -> Self {
        self.0.of_resume = true;
        self
    }

    /// Returns true for an error that `resume=true` brought about.
    pub fn is_of_resume(&self) -> bool {
        self.0.of_resume
    }

    /// Adds what was being done as a `while` line, if the error is of this rank.
    fn during(self, what: impl Into<String>) -> Self {
        match self.0.of_another_rank {
            true => self,
            false => self.note("while", what.into()),
        }
    }

    /// Returns true if the error only stopped the work, which then can be saved.
    pub fn only_stops(&self) -> bool {
        self.0.of_another_rank || self.0.class == Class::Interrupted
    }

    /// Returns the class, which decides the exit code.
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// Returns the first line, without `error:`.
    pub fn what(&self) -> String {
        self.0.what.to_string()
    }

    /// Makes it a failure of the run: the value that is wrong comes from a file, and not from what
    /// the user typed.
    pub fn into_failed(mut self) -> Self {
        self.0.class = Class::Failed;
        self
    }

    /// Shows the parameters that the error names as keys of `group`: `size` as `dataset.size`.
    /// A stage that gives an engine the settings of a config group calls it.
    pub fn within(mut self, group: &str) -> Self {
        let Parts {
            what, notes, hints, ..
        } = &mut *self.0;
        let notes = notes.iter_mut().map(|(_, text)| text);
        for text in notes.chain(hints).chain([what]) {
            text.within(group);
        }
        self
    }
}

/// Shows the whole message, as it follows `error: `.
impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0.what)?;
        for (label, text) in &self.0.notes {
            write!(out, "\n  {label}: {text}")?;
        }
        for hint in &self.0.hints {
            write!(out, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

impl From<std::io::Error> for Error {
    /// Takes the text of the error, in which `fs_err` names the path, and adds advice.
    fn from(error: std::io::Error) -> Self {
        let plain = Self::failed(error.to_string());
        match advice(error.kind()) {
            Some(hint) => plain.hint(hint),
            None => plain,
        }
        .caused_by(error)
    }
}

/// Returns what to do about an error of the file system that remains when the work is repeated.
pub(crate) fn advice(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(
            "free some space or choose another place (`df -h`, `quota`); what was there before is \
             untouched",
        ),
        ErrorKind::ReadOnlyFilesystem => Some("the file system is read-only; choose another place"),
        ErrorKind::FileTooLarge => Some(
            "a limit on the size of files is in the way (`ulimit -f`); what was there before is \
             untouched",
        ),
        _ => None,
    }
}

impl From<anyhow::Error> for Error {
    /// Takes the error out of its contexts, which become `while` lines, the innermost first. Any
    /// other type of error is a failed run, whose message is that error's with its contexts and
    /// causes.
    fn from(error: anyhow::Error) -> Self {
        without_contexts::<Self>(error)
            .or_else(without_contexts::<std::io::Error>)
            .or_else(without_contexts::<tch::TchError>)
            .unwrap_or_else(|error| Self::failed(format!("{error:#}")).caused_by(error))
    }
}

/// Converts an error of type `E` with anyhow's contexts.
///
/// # Errors
/// The given error, if it is of another type.
fn without_contexts<E>(error: anyhow::Error) -> Result<Error, anyhow::Error>
where
    E: std::error::Error + Into<Error> + Send + Sync + 'static,
{
    let contexts = error.chain().take_while(|cause| !cause.is::<E>());
    let contexts: Vec<String> = contexts.map(ToString::to_string).collect();
    let inner = error.downcast::<E>()?.into();
    Ok(contexts.into_iter().rev().fold(inner, Error::during))
}

impl From<tch::TchError> for Error {
    /// Takes the first line of libtorch's message; a C++ backtrace follows it.
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or("unknown error");
        Self::failed(format!("libtorch: {line}")).caused_by(error)
    }
}

/// Returns true if the work with this outcome can be saved: it was completed, or was only stopped.
pub fn is_whole<T>(outcome: &Result<T>) -> bool {
    outcome.as_ref().err().is_none_or(Error::only_stops)
}

/// Adds to an error what the caller knows: what was being done, and the group of the settings.
pub trait During<T> {
    /// Adds what was being done as a `while: …` line:
    /// `.during(|| format!("training node {i}"))`.
    fn during<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;

    /// Shows the parameters that the error names as keys of `group`, see [`Error::within`].
    fn within(self, group: &str) -> Result<T>;
}

impl<T, E: Into<Error>> During<T> for Result<T, E> {
    fn during<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().during(what()))
    }

    fn within(self, group: &str) -> Result<T> {
        self.map_err(|error| error.into().within(group))
    }
}
