//! Composes a config: parses the overrides, expands the defaults lists, merges, takes out unknown
//! keys, resolves references, checks types and relations, and extracts the typed struct.

use super::apply::{apply, restore_default};
use super::composed::{Composed, set_by};
use super::grammar::Parsed;
use super::node::Node;
use super::overrides::Override;
use super::schema::Config;
use super::separate::{refuse_replaced, separate};
use super::tree::Source;
use super::validate::validate;
use super::{check, choices, extract, interpolate, kinds, known, mistakes, options, shape};
use crate::error::{During, Error, Result};
use crate::runtime::progress::Progress;
use std::path::PathBuf;

/// Says where the config tree is and what to change in it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Overrides as typed, in order.
    pub overrides: Vec<String>,
    /// Folder of the config tree; `None`: `./config`, else the built-in tree.
    pub config_dir: Option<PathBuf>,
    /// Primary file, with or without `.yaml`; `None`: `config`.
    pub config_name: Option<String>,
}

/// Composes one configuration.
///
/// # Errors
/// Fails at everything the user can get wrong, naming file and line or argument.
pub fn compose(request: &Request) -> Result<Composed> {
    let source = Source::find(
        request.config_dir.as_deref(),
        request.config_name.as_deref(),
    )?;
    let overrides = parse(&source, &request.overrides)?;
    refuse_sweep(&overrides)?;
    compose_one(&source, overrides, request.overrides.clone())
}

/// Composes every job of a sweep, the last override varying fastest; without `multirun`, the one
/// job.
///
/// # Errors
/// Fails as [`compose`] does, for the first job that cannot be composed, and at several values
/// without `multirun`.
pub fn compose_all(request: &Request, multirun: bool) -> Result<Vec<Composed>> {
    /// Number of jobs beyond which a sweep is a mistake.
    const MOST: usize = 10_000;
    let source = Source::find(
        request.config_dir.as_deref(),
        request.config_name.as_deref(),
    )?;
    let overrides = parse(&source, &request.overrides)?;
    if !multirun {
        refuse_sweep(&overrides)?;
    }
    let choices: Vec<Vec<String>> = overrides.iter().map(Override::expanded).collect();
    let count = choices
        .iter()
        .try_fold(1_usize, |count, values| count.checked_mul(values.len()));
    let Some(count) = count.filter(|count| *count <= MOST) else {
        return Err(Error::usage(format!(
            "this sweep has more than {MOST} jobs"
        )));
    };
    let job = |index: usize| {
        let arguments = combination(&choices, index);
        compose_one(&source, parse(&source, &arguments)?, arguments)
    };
    let label = |index: usize| {
        format!(
            "composing job {} of {count}: {}",
            index + 1,
            combination(&choices, index).join(" ")
        )
    };
    if count == 1 {
        return Ok(vec![job(0)?]);
    }
    let progress = Progress::new("composing the jobs of the sweep", count as u64);
    (0..count)
        .map(|index| {
            progress.step();
            job(index).during(|| label(index))
        })
        .collect()
}

/// Returns the `index`-th element of the Cartesian product, the last factor varying fastest.
fn combination(choices: &[Vec<String>], mut index: usize) -> Vec<String> {
    let mut picked = Vec::with_capacity(choices.len());
    for values in choices.iter().rev() {
        picked.extend(values.get(index % values.len().max(1)).cloned());
        index /= values.len().max(1);
    }
    picked.reverse();
    picked
}

fn refuse_sweep(overrides: &[Override]) -> Result<()> {
    let sweep = overrides.iter().find_map(|parsed| match &parsed.value {
        Some(Parsed::Many(values)) => Some((parsed, values)),
        _ => None,
    });
    let Some((parsed, values)) = sweep else {
        return Ok(());
    };
    let error = Error::usage(format!(
        "`{}` is given {} values for one run",
        parsed.key,
        values.len()
    ))
    .note("from", parsed.origin.to_string())
    .hint("to run a job for each value add --multirun (-m)");
    Err(if parsed.raw.contains('(') {
        error
    } else {
        error.hint(format!(
            "for a list type {0}=[{1}], for text with commas {0}=\"'{1}'\"",
            parsed.key, parsed.raw
        ))
    })
}

fn parse(source: &Source, arguments: &[String]) -> Result<Vec<Override>> {
    let parse = |(index, argument): (usize, &String)| {
        refuse_option_alone(source, argument)?;
        let parsed = Override::parse(argument);
        match arguments.get(index + 1) {
            Some(next) if argument.trim_end().ends_with(',') => parsed.map_err(|error| {
                error.hint(format!(
                    "the blank behind the comma made an argument of its own of `{next}`: leave it \
                     out, or put `{argument} {next}` in quotes"
                ))
            }),
            _ => parsed.map_err(|error| match without_blanks(arguments, index) {
                Some(whole) => error.hint(format!("no blanks around `=`: type `{whole}`")),
                None => error,
            }),
        }
    };
    arguments.iter().enumerate().map(parse).collect()
}

/// Returns the override that blanks around its `=` tore apart, if the argument at `index` is a
/// part of one: a key without `=`, or a value behind one.
fn without_blanks(arguments: &[String], index: usize) -> Option<String> {
    let is_part = |text: &String| !text.contains('=');
    let part = arguments.get(index).filter(|part| is_part(part))?;
    let before = index
        .checked_sub(1)
        .and_then(|before| arguments.get(before));
    if let Some(start) = before.filter(|before| before.ends_with('=')) {
        return Some(format!("{start}{part}"));
    }
    let (next, after) = (arguments.get(index + 1)?, arguments.get(index + 2));
    match (
        next.strip_prefix('=')?,
        after.filter(|after| is_part(after)),
    ) {
        ("", Some(value)) => Some(format!("{part}={value}")),
        ("", None) => None,
        (value, _) => Some(format!("{part}={value}")),
    }
}

/// Refuses an option that is typed without its group.
fn refuse_option_alone(source: &Source, argument: &str) -> Result<()> {
    // Most arguments: the folders of all groups are read for the others alone.
    if argument.contains('=') {
        return Ok(());
    }
    let has = |group: &&String| source.tree.options(group).iter().any(|o| o == argument);
    let groups: Vec<&String> = source.groups.iter().filter(has).collect();
    if groups.is_empty() {
        return Ok(());
    }
    let groups = groups.iter();
    let named: Vec<String> = groups.clone().map(|group| format!("`{group}`")).collect();
    let typed: Vec<String> = groups
        .map(|group| format!("`+{group}={argument}`"))
        .collect();
    let named = named.join(" and ");
    let what = format!("`{argument}` is an option of {named}, typed without its group");
    Err(Error::usage(what)
        .note("from", format!("command line `{argument}`"))
        .hint(format!("type {}", typed.join(" or "))))
}

/// Composes the config of one job.
fn compose_one(
    source: &Source,
    overrides: Vec<Override>,
    arguments: Vec<String>,
) -> Result<Composed> {
    // What is no group of the tree is taken for a key.
    let unknown = overrides
        .iter()
        .filter(|typed| !source.groups.contains(&typed.key));
    let unknown: Vec<_> = unknown
        .map(|typed| (typed.key.clone(), typed.raw.clone()))
        .collect();
    merged(source, overrides, arguments).map_err(|error| {
        let explain = |error, (group, option): &(String, String)| {
            source.explain_missing(error, group, option)
        };
        unknown.iter().fold(error, explain)
    })
}

fn merged(source: &Source, overrides: Vec<Override>, arguments: Vec<String>) -> Result<Composed> {
    let (groups, keys) = separate(&source.groups, overrides)?;
    let expansion = choices::expand(source, &groups)?;
    refuse_replaced(&expansion.parts)?;
    let default = Node::built_in(&Config::default())?;
    let mut built_in = default.clone();
    kinds::complete(&mut built_in, shape::config());
    let mut root = built_in.clone();
    for part in &expansion.parts {
        root.merge(part.content.placed())?;
    }
    for key in &keys {
        apply(key, &mut root, &built_in)?;
    }
    options::spell_out(&mut root, source)?;
    let mut found = Vec::new();
    known::take_unknown(&mut root, shape::config(), &source.groups, &mut found);
    let resolved = interpolate::resolve(&mut root, &mut found);
    for path in &resolved.failed {
        restore_default(&mut root, &built_in, path);
    }
    take_mandatory(&mut root, &built_in, &mut found);
    validate(&mut root, shape::config(), &default, &mut found);
    mistakes::report(found)?;
    let (config, figment) = extract::extract(&root)?;
    mistakes::report(check::check(&config, &|key| set_by(&figment, key))?)?;
    let environment = resolved.environment;
    Ok(Composed::new(config, figment, expansion, arguments).with_environment(environment))
}

/// Reports every `???`, a value the user must give.
fn take_mandatory(root: &mut Node, built_in: &Node, mistakes: &mut Vec<Error>) {
    let mut missing = Vec::new();
    root.leaves(&mut |path, node| {
        if node.as_text() == Some("???") {
            let key = path.join(".");
            let error = Error::usage(format!("`{key}` must be given"))
                .note("from", node.origin.to_string())
                .hint(format!("type {key}=VALUE"));
            mistakes.push(error);
            missing.push(path.to_vec());
        }
    });
    for path in missing {
        restore_default(root, built_in, &path);
    }
}
