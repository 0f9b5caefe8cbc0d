//! Reads the arguments that every stage takes with clap, and words its errors as this program does.

use crate::config::{Tree, either, list, nearest, shape};
use crate::error::Error;
use crate::run::stages::Stage;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use std::error::Error as _;
use std::ffi::OsString;
use std::num::{ParseFloatError, ParseIntError};
use std::path::PathBuf;

/// Lists flags of Hydra that have another name here, each with that name.
const HYDRAS: [(&str, &str); 4] = [
    ("-c", "--cfg"),
    ("-i", "--info"),
    ("-cp", "--config-dir"),
    ("--config-path", "--config-dir"),
];

/// Lists the keys of the config that are on or off, which many type as flags.
const SWITCHES: [&str; 3] = ["resume", "overwrite", "tensorboard"];

/// Flags and overrides. Anything that does not begin with `-` is an override.
#[derive(Debug, Parser)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Arguments {
    /// Run a job for every combination of the values that overrides list: `a=1,2`, `a=range(0,3)`,
    /// `a=choice(x,y)`
    #[arg(short, long)]
    pub multirun: bool,
    /// Print the composed config and stop
    #[arg(long, value_parser = ["job"], value_name = "job", conflicts_with = "info")]
    pub cfg: Option<String>,
    /// Print the config with who set each key, the files in merge order, or the config with what
    /// each key takes and means, and stop
    #[arg(long, value_parser = ["config", "defaults", "keys"], value_name = "config|defaults|keys")]
    pub info: Option<String>,
    /// Add the files of this folder to the built-in config tree, in place of those of their names;
    /// with a `config.yaml` it is the whole tree (also `-cd`)
    #[arg(long, value_name = "FOLDER")]
    pub config_dir: Option<PathBuf>,
    /// Begin with this file of the tree instead of `config` (also `-cn`)
    #[arg(long, value_name = "NAME")]
    pub config_name: Option<String>,
    /// Print this help and stop
    #[arg(short, long)]
    pub help: bool,
    /// Print the version and stop
    #[arg(short = 'V', long)]
    pub version: bool,
    #[arg(value_name = "OVERRIDE")]
    pub overrides: Vec<String>,
}

impl Arguments {
    /// Reads the arguments of `stage`, the program's name first.
    ///
    /// # Errors
    /// Fails for an unknown flag and for a flag's wrong value (usage).
    pub fn read(arguments: &[OsString], stage: &Stage) -> Result<Self, Error> {
        let typed: Vec<OsString> = arguments.iter().map(spelled_out).collect();
        Self::try_parse_from(&typed).map_err(|error| match error.kind() {
            ErrorKind::UnknownArgument => {
                unknown(&name(&error, ContextKind::InvalidArg), &typed, stage)
            }
            _ => explain(&error),
        })
    }

    /// Returns each flag as it is typed, and what it does.
    pub fn flags() -> Vec<(String, String)> {
        let command = Self::command();
        let flag = |argument: &clap::Arg| {
            let long = argument.get_long()?;
            let value = match argument.get_action().takes_values() {
                true => argument
                    .get_value_names()
                    .and_then(|names| names.first())
                    .map(|name| format!(" {name}")),
                false => None,
            };
            let short = argument
                .get_short()
                .map_or(String::new(), |short| format!("-{short}, "));
            let help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            Some((
                format!("{short}--{long}{}", value.unwrap_or_default()),
                help,
            ))
        };
        command.get_arguments().filter_map(flag).collect()
    }

    fn names() -> Vec<String> {
        let command = Self::command();
        command
            .get_arguments()
            .filter_map(|argument| argument.get_long())
            .map(|long| format!("--{long}"))
            .collect()
    }
}

/// Returns a flag of two letters behind one dash, as Hydra has them, in its long form.
fn spelled_out(argument: &OsString) -> OsString {
    for (short, long) in [("-cd", "--config-dir"), ("-cn", "--config-name")] {
        match argument.to_str().and_then(|text| text.strip_prefix(short)) {
            Some("") => return long.into(),
            Some(value) if value.starts_with('=') => return format!("{long}{value}").into(),
            _ => {}
        }
    }
    argument.clone()
}

/// Returns a text that an error of clap holds, the first of several.
fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    }
}

/// Returns the flag that an error of clap is about (`InvalidArg`), or another one (`PriorArg`).
fn name(error: &clap::Error, kind: ContextKind) -> String {
    let flag = context(error, kind).unwrap_or_default();
    // clap appends the value's name: `--cfg <job>`.
    let name = flag.split_whitespace().next();
    name.unwrap_or_default().to_owned()
}

/// Words an error of clap as this program does.
pub(super) fn explain(error: &clap::Error) -> Error {
    let other = name(error, ContextKind::PriorArg);
    let name = name(error, ContextKind::InvalidArg);
    match (error.kind(), context(error, ContextKind::InvalidValue)) {
        (ErrorKind::InvalidValue, Some(value)) => {
            let allowed: &[String] = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(values)) => values,
                _ => &[],
            };
            let available = match allowed {
                [] => "any text".into(),
                values => list(values),
            };
            if !value.is_empty() {
                return Error::usage(format!("`{name}` cannot be `{value}`"))
                    .note("available", available);
            }
            let error =
                Error::usage(format!("`{name}` needs a value")).note("available", available);
            match allowed.first() {
                Some(first) => error.hint(format!("type `{name} {first}`")),
                None => error,
            }
        }
        (ErrorKind::ValueValidation, Some(value)) => {
            let refused = Error::usage(format!("`{name}` cannot be `{value}`"));
            match error.source() {
                Some(why) if why.is::<ParseIntError>() => {
                    refused.note("expected", "a whole number")
                }
                Some(why) if why.is::<ParseFloatError>() => refused.note("expected", "a number"),
                Some(why) => refused.note("reason", why.to_string()),
                None => refused,
            }
        }
        (ErrorKind::InvalidUtf8, _) => Error::usage("an argument is not valid UTF-8 text"),
        (ErrorKind::TooManyValues, _) => Error::usage(format!("`{name}` takes no value")),
        (ErrorKind::ArgumentConflict, _) if name == other => {
            Error::usage(format!("`{name}` is given twice"))
        }
        (ErrorKind::ArgumentConflict, _) => {
            Error::usage(format!("`{name}` and `{other}` cannot be given together"))
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or("wrong arguments");
            Error::usage(line.trim_start_matches("error: "))
        }
    }
}

/// Returns the argument that holds `name`, the flag that clap does not know. Of several letters
/// behind one dash clap makes a flag each, and names the first that there is not: `-=` of `-m=1`.
fn typed<'a>(name: &'a str, arguments: &'a [OsString]) -> &'a str {
    let mut letters = name.strip_prefix('-').unwrap_or(name).chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    let is_meant = |argument: &&str| match letter {
        Some(letter) => {
            argument.starts_with('-') && !argument.starts_with("--") && argument.contains(letter)
        }
        None => argument.split('=').next() == Some(name),
    };
    let arguments = arguments.iter().skip(1);
    let mut texts = arguments.filter_map(|argument| argument.to_str());
    texts.find(is_meant).unwrap_or(name)
}

/// Returns the error for a flag that `stage` does not have, which most often is an override with
/// dashes in front.
fn unknown(name: &str, arguments: &[OsString], stage: &Stage) -> Error {
    let typed = typed(name, arguments);
    let flag = typed.split('=').next().unwrap_or(typed);
    if name == "-=" {
        return Error::usage(format!("`{flag}` takes no value"));
    }
    let flags = Arguments::names();
    let error =
        Error::usage(format!("`{typed}` is not a flag")).note("available", flags.join(", "));
    if let Some((_, meant)) = HYDRAS.iter().find(|(hydras, _)| *hydras == flag) {
        return error.hint(format!("did you mean `{meant}`?"));
    }
    let bare = typed.trim_start_matches('-');
    // What all flags have in common makes none of them alike.
    let words: Vec<&str> = flags
        .iter()
        .map(|flag| flag.trim_start_matches('-'))
        .collect();
    match nearest(flag.trim_start_matches('-'), &words) {
        _ if SWITCHES.contains(&bare) => {
            error.hint(format!("overrides have no dashes; type `{bare}=true`"))
        }
        Some(flag) if !bare.contains('=') => error.hint(format!("did you mean `--{flag}`?")),
        _ => error.hint(override_meant(bare, stage)),
    }
}

/// Returns what to type in place of `typed`, a word or `word=value` that stood behind dashes: the
/// word if it is a key or a group, else the keys that `stage` reads and of which it is the last
/// part.
fn override_meant(typed: &str, stage: &Stage) -> String {
    let (word, value) = typed.split_once('=').unwrap_or((typed, "VALUE"));
    let key = word.replace('-', "_");
    let path: Vec<&str> = key.split('.').collect();
    if shape::config().get(&path).is_some() || Tree::BuiltIn.groups().contains(&key) {
        return match typed.contains('=') {
            true => format!("overrides have no dashes; type `{key}={value}`"),
            false => format!("overrides have no dashes: `{key}={value}`"),
        };
    }
    let mut meant = Vec::new();
    shape::config().leaves(&mut |path| {
        let full = path.join(".");
        // What changes no result is read by every stage.
        let free = shape::config()
            .get(&path[..1])
            .is_some_and(|shape| shape.free);
        if path.last() == Some(&key) && (free || stage.depends_on(&full)) {
            meant.push(format!("{full}={value}"));
        }
    });
    match meant.as_slice() {
        [] => "overrides are written KEY=VALUE, without dashes; `--help` lists the groups".into(),
        keys => format!("overrides have no dashes, and whole keys: {}", either(keys)),
    }
}
