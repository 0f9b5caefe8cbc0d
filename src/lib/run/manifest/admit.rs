//! Decides what a stage does where an earlier run may have written already.

use super::{Manifest, Status, existing};
use crate::artifact::json;
use crate::config::schema::recorded;
use crate::config::shape;
use crate::error::{Error, Result};
use crate::run::stages::{self, is_path};
use serde_json::Value;
use std::path::Path;

/// Tells what the stage is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Start from nothing; whatever is there may be replaced.
    Fresh,
    /// Nothing: the result is there (`resume=true`).
    Done,
    /// Nothing, if what lies at other paths than then is the same (`resume=true`).
    DoneElsewhere,
    /// Resume what an unfinished run left (`resume=true`).
    Continue,
}

/// Limits the differing keys that an error spells out.
const SHOWN: usize = 5;

/// Decides by the manifest at `manifest_path` and by whether `primary_output`, the stage's main
/// result, is there.
///
/// | earlier run | no flag | `resume` | `overwrite` |
/// |---|---|---|---|
/// | none, nothing there | fresh | fresh | fresh |
/// | no manifest, but a result | refused | refused | fresh |
/// | unfinished | fresh | continue | fresh |
/// | done | refused | done | fresh |
/// | done, result removed | fresh | fresh | fresh |
///
/// With `resume`, every key that `config` holds must have the value it had in the earlier run; keys
/// that it leaves out are not compared, so a stage gives the part that its result depends on
/// ([`Stage::identity`](crate::run::stages::Stage::identity)). Paths may differ: a folder of runs
/// may have been moved. What lies there is compared by the caller, and by the checkpoints.
///
/// # Errors
/// Fails with the refusals above, for another config, for both flags at once, and for a damaged
/// manifest (unless `overwrite`).
pub fn admit(
    manifest_path: &Path,
    resume: bool,
    overwrite: bool,
    primary_output: &Path,
    config: &Value,
) -> Result<Admission> {
    if resume && overwrite {
        return Err(
            Error::usage("`resume=true` and `overwrite=true` exclude each other")
                .hint("give one of them"),
        );
    }
    if overwrite {
        return Ok(Admission::Fresh);
    }
    let there = holds_something(primary_output);
    let Some(earlier) = existing(manifest_path)? else {
        return if there {
            Err(unknown(primary_output))
        } else {
            Ok(Admission::Fresh)
        };
    };
    match (earlier.status, resume) {
        (Status::Done, _) if !there => Ok(Admission::Fresh),
        (Status::Done, false) => Err(finished(&earlier, primary_output, config)),
        (Status::Done, true) => {
            same_config(&earlier, config, manifest_path)?;
            Ok(match differences(&earlier, config).is_empty() {
                true => Admission::Done,
                false => Admission::DoneElsewhere,
            })
        }
        (_, false) => Ok(Admission::Fresh),
        (_, true) => same_config(&earlier, config, manifest_path).map(|()| Admission::Continue),
    }
}

/// Returns true for a file, and for a folder with anything in it.
fn holds_something(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.exists(),
    }
}

/// Reports a result that has no manifest.
fn unknown(primary_output: &Path) -> Error {
    Error::usage(format!(
        "`{}` is there already, and no manifest says where it comes from",
        primary_output.display()
    ))
    .hint("`overwrite=true` replaces it; or write to another path")
}

/// Returns a manifest's `time` to the second, as people read it.
fn to_the_second(time: &str) -> String {
    let parsed = time.parse::<jiff::Timestamp>();
    parsed.map_or_else(|_| time.to_owned(), |time| format!("{time:.0}"))
}

/// Reports a finished run, and what its config differs in.
fn finished(earlier: &Manifest, primary_output: &Path, config: &Value) -> Error {
    let when = to_the_second(earlier.ended.as_deref().unwrap_or(&earlier.started));
    let error = Error::usage(format!(
        "`{}` holds a finished run of `{}`",
        primary_output.display(),
        earlier.stage
    ))
    .note("from", format!("{when}, device {}", earlier.device));
    let differences = differences(earlier, config);
    let error = list(error, &differences);
    match differences.is_empty() {
        true => error.hint(
            "it had this very config: `resume=true` keeps it, `overwrite=true` \
            replaces it",
        ),
        false => error.hint(
            "`overwrite=true` replaces it; or give the earlier values and `resume=true`, or write \
             to another path",
        ),
    }
}

/// Refuses to mix results of two configs.
fn same_config(earlier: &Manifest, config: &Value, manifest_path: &Path) -> Result<()> {
    let mut differences = differences(earlier, config);
    differences.retain(|(key, _)| !is_path(key));
    if differences.is_empty() {
        return Ok(());
    }
    let error = Error::usage(format!(
        "`resume=true`, but the earlier run of `{}` had another config",
        earlier.stage
    ));
    Err(list(error, &differences)
        .of_resume()
        .note("from", manifest_path.display().to_string())
        .hint(
            "give the earlier values, or `overwrite=true` to start again, or write to another path",
        ))
}

/// Returns each key of `config` that had another value in the earlier run, and a line with both. A
/// key that was missing then counts as its default, and one that is unknown now counts too.
fn differences(earlier: &Manifest, config: &Value) -> Vec<(String, String)> {
    let then = recorded(&earlier.config);
    let leaves = json::leaves(config).into_iter();
    let both = leaves.map(|(key, now)| (json::at(&then, &key), now, key));
    let changed = both.filter(|(then, now, _)| then != now);
    let changed = changed.map(|(then, now, key)| {
        let line = format!("{key}: {} then, {} now", brief(then), brief(now));
        (key, line)
    });
    let identity = stages::named(&earlier.stage).map(|stage| stage.identity(&earlier.config));
    let leaves = identity.iter().flat_map(json::leaves);
    let is_known = |key: &str| {
        let names: Vec<&str> = key.split('.').collect();
        shape::config().get(&names).is_some()
    };
    let unknown = leaves.filter(|(key, _)| !is_known(key)).map(|(key, then)| {
        let line = format!("{key}: {} then, unknown now", brief(then));
        (key, line)
    });
    changed.chain(unknown).collect()
}

/// Adds the first differences to an error.
fn list(error: Error, differences: &[(String, String)]) -> Error {
    let shown = differences.iter().take(SHOWN);
    let error = shown.fold(error, |error, (_, line)| error.note("differs", line));
    match differences.len().saturating_sub(SHOWN) {
        0 => error,
        more => error.note("differs", format!("and {more} more")),
    }
}

/// Formats a value for an error line: a long one, such as a whole group, is cut short.
fn brief(value: &Value) -> String {
    const LONG: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONG {
        return text;
    }
    text.chars().take(LONG).chain("…".chars()).collect()
}
