//! Reads the arguments that every stage takes with clap, and words its errors as this program does.

use crate::config::nearest;
use crate::error::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

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
    #[arg(long, value_parser = ["job"], value_name = "job")]
    pub cfg: Option<String>,
    /// Print the config with who set each key, or the files in merge order, and stop
    #[arg(long, value_parser = ["config", "defaults"], value_name = "config|defaults")]
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
    /// Reads the arguments, the program's name first.
    ///
    /// # Errors
    /// Fails for an unknown flag and for a flag's wrong value (usage).
    pub fn read(arguments: &[OsString]) -> Result<Self, Error> {
        let typed = arguments.iter().map(spelled_out);
        Self::try_parse_from(typed).map_err(|error| explain(&error, arguments))
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

/// Words an error of clap as this program does.
pub(super) fn explain(error: &clap::Error, arguments: &[OsString]) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let flag = context(ContextKind::InvalidArg).unwrap_or_default();
    // clap appends the value's name: `--cfg <job>`.
    let name = flag
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned();
    match (error.kind(), context(ContextKind::InvalidValue)) {
        (ErrorKind::UnknownArgument, _) => unknown(&name, arguments),
        (ErrorKind::InvalidValue, Some(value)) => {
            let allowed = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(values)) => values.join(", "),
                _ => "any text".into(),
            };
            let what = if value.is_empty() {
                format!("`{name}` needs a value")
            } else {
                format!("`{name}` cannot be `{value}`")
            };
            Error::usage(what).note("available", allowed)
        }
        (ErrorKind::InvalidUtf8, _) => Error::usage("an argument is not valid UTF-8 text"),
        (ErrorKind::TooManyValues, _) => Error::usage(format!("`{name}` takes no value")),
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or("wrong arguments");
            Error::usage(line.trim_start_matches("error: "))
        }
    }
}

/// Returns the error for a flag that does not exist, which most often is an override with dashes in
/// front.
fn unknown(name: &str, arguments: &[OsString]) -> Error {
    let typed = arguments
        .iter()
        .skip(1)
        .filter_map(|argument| argument.to_str())
        .find(|argument| argument.split('=').next() == Some(name))
        .unwrap_or(name);
    let error = Error::usage(format!("`{typed}` is not a flag"))
        .note("available", Arguments::names().join(", "));
    let bare = typed.trim_start_matches('-');
    // What all flags have in common makes none of them alike.
    let flags = Arguments::names();
    let words: Vec<&str> = flags
        .iter()
        .map(|flag| flag.trim_start_matches('-'))
        .collect();
    match nearest(name.trim_start_matches('-'), &words) {
        _ if bare.contains('=') => error.hint(format!("overrides have no dashes; type `{bare}`")),
        _ if SWITCHES.contains(&bare) => {
            error.hint(format!("overrides have no dashes; type `{bare}=true`"))
        }
        Some(flag) => error.hint(format!("did you mean `--{flag}`?")),
        None => error.hint(format!("overrides have no dashes: `{bare}=VALUE`")),
    }
}
