//! Implements the command line of a binary that takes subcommands instead of a config, and words
//! clap's errors as this program does.

use super::{arguments, exit};
use crate::config::{list, nearest};
use crate::error::Error;
use crate::runtime::{interrupt, output};
use anyhow::Result;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs such a binary. Help and results go to stdout, errors to stderr; exit codes are those of the
/// stages.
pub fn tool<P: Parser>(run: fn(P) -> Result<()>) -> ExitCode {
    interrupt::ignore_file_size_signal();
    exit(start(run, &std::env::args_os().collect::<Vec<_>>()))
}

fn start<P: Parser>(run: fn(P) -> Result<()>, arguments: &[OsString]) -> Result<()> {
    match P::try_parse_from(arguments) {
        Ok(parsed) => run(parsed),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(output::print(error.to_string().trim_end())?)
            }
            _ => Err(explain(&error, &P::command(), arguments).into()),
        },
    }
}

fn explain(error: &clap::Error, tool: &clap::Command, arguments: &[OsString]) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    let (typed, name) = typed(tool, arguments);
    let help = format!("`{name} --help` says more");
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let wrong = context(ContextKind::InvalidSubcommand).concat();
            let names = subcommands(typed);
            let error = Error::usage(format!("`{name}` has no subcommand `{wrong}`"))
                .note("available", list(&names));
            match nearest(&wrong, &names) {
                Some(near) => error.hint(format!("did you mean `{name} {near}`?")),
                None => error.hint(help),
            }
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Error::usage(format!("`{name}` needs a subcommand"))
                .note("available", list(&subcommands(typed)))
                .hint(help)
        }
        ErrorKind::UnknownArgument => {
            let wrong = context(ContextKind::InvalidArg).concat();
            let flags = typed.get_arguments().chain(tool.get_arguments());
            let flags: Vec<String> = flags
                .filter_map(clap::Arg::get_long)
                .map(|long| format!("--{long}"))
                .collect();
            let error = Error::usage(format!("`{name}` takes no `{wrong}`"))
                .note("available", list(&flags));
            // What all flags have in common makes none of them alike.
            let words: Vec<&str> = flags
                .iter()
                .map(|flag| flag.trim_start_matches('-'))
                .collect();
            let meant = nearest(wrong.trim_start_matches('-'), &words);
            match meant.filter(|_| wrong.starts_with('-')) {
                Some(flag) => error.hint(format!("did you mean `--{flag}`?")),
                None => error.hint(help),
            }
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = context(ContextKind::InvalidArg);
            Error::usage(format!("`{name}` needs {}", missing.join(" and "))).hint(help)
        }
        _ => arguments::explain(error),
    }
}

/// Returns the subcommand that was typed, at any depth, or the tool itself; and its whole name.
/// Behind a word that is no subcommand there is none.
fn typed<'a>(tool: &'a clap::Command, arguments: &[OsString]) -> (&'a clap::Command, String) {
    let mut found = (tool, tool.get_name().to_owned());
    for argument in arguments.iter().skip(1) {
        match found.0.find_subcommand(argument) {
            Some(command) => found = (command, format!("{} {}", found.1, command.get_name())),
            None if argument.to_string_lossy().starts_with('-') => {}
            None => break,
        }
    }
    found
}

fn subcommands(command: &clap::Command) -> Vec<&str> {
    command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect()
}
