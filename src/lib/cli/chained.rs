//! Finds a sweep whose jobs would all read one input, although an earlier sweep wrote one for each:
//! a sweep keeps apart what its jobs write, and what they read is up to the paths that are given.

use super::sweep::{folder_name, own_path, path, varied};
use crate::config::{Composed, Request, compose};
use crate::error::Error;
use crate::run::stages::Stage;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Limits the jobs whose paths are looked at.
const JOBS: usize = 32;

/// Limits the overrides that vary, of which the earlier sweep may have varied some.
const VARIED: usize = 6;

/// Holds an input that all jobs would read.
pub struct Shared {
    /// The key of its path.
    key: &'static str,
    path: PathBuf,
    /// What an earlier sweep wrote for one of the jobs.
    own: PathBuf,
    /// The argument with which each job reads its own, if references can tell it.
    argument: Option<String>,
}

/// Returns the inputs that all jobs of a sweep would read, although an earlier sweep wrote one for
/// each.
pub fn find(stage: &Stage, jobs: &[Composed], request: &Request) -> Vec<Shared> {
    if jobs.len() < 2 {
        return Vec::new();
    }
    let varied = varied(jobs);
    let shared = |key| shared(key, jobs, &varied, request);
    stage.inputs().filter_map(shared).collect()
}

/// Refuses a sweep if one of these inputs is not there; warns if all are there, since either may be
/// meant.
///
/// # Errors
/// Fails with the refusal (usage), which says what to type.
pub fn report(shared: &[Shared]) -> Result<()> {
    if shared.iter().all(|shared| is_there(&shared.path)) {
        for shared in shared {
            tracing::warn!(
                "all jobs of this sweep read {}, but an earlier sweep wrote one for each, such as \
                 {}: {}",
                shared.path.display(),
                shared.own.display(),
                shared.advice()
            );
        }
        return Ok(());
    }
    let error = Error::usage(
        "all jobs of this sweep would read one input, but an earlier sweep wrote one for each",
    );
    let error = shared.iter().fold(error, |error, shared| {
        error
            .note("from", format!("{}={}", shared.key, shared.path.display()))
            .note("found", shared.own.display().to_string())
            .hint(shared.advice())
    });
    bail!(error);
}

impl Shared {
    /// Says what to type, so that each job reads its own.
    fn advice(&self) -> String {
        match &self.argument {
            Some(argument) => format!("'{argument}' reads each job's own"),
            None => format!(
                "let `{}` name what varies, in both sweeps, by references such as `${{seed}}`",
                self.key
            ),
        }
    }
}

/// Returns the input of a key if all jobs would read the same one, and an earlier sweep wrote it
/// for some of them alone.
fn shared(
    key: &'static str,
    jobs: &[Composed],
    varied: &[Vec<&str>],
    request: &Request,
) -> Option<Shared> {
    let shared = path(jobs.first()?, key)?;
    // Some of very many; the last one differs from the first in all that varies.
    let mut some = jobs.iter().take(JOBS).chain(jobs.last());
    if !some.all(|job| path(job, key).as_ref() == Some(&shared)) {
        return None;
    }
    let (job, part, own) = jobs
        .iter()
        .zip(varied)
        .take(JOBS)
        .find_map(|(job, varied)| {
            parts(varied).find_map(|part| {
                let own = own_path(&shared, &folder_name(&part));
                own.exists().then_some((job, part, own))
            })
        })?;
    Some(Shared {
        key,
        argument: argument(key, &shared, &part, &own, job, request),
        path: shared,
        own,
    })
}

/// Returns the lists of some of the overrides, in their order, all of them first.
fn parts<'a>(varied: &'a [&str]) -> impl Iterator<Item = Vec<&'a str>> {
    let count = varied.len().min(VARIED);
    let is_in = |chosen: usize, index: usize| (chosen >> index) & 1 == 1;
    (1..1_usize << count).rev().map(move |chosen| {
        let part = (0..count).filter(|&index| is_in(chosen, index));
        part.map(|index| varied[index]).collect()
    })
}

/// Returns an argument that leads each job to its own input by references to the keys that vary; it
/// is tried with `job`, whose own input is known.
fn argument(
    key: &str,
    shared: &Path,
    part: &[&str],
    own: &Path,
    job: &Composed,
    request: &Request,
) -> Option<String> {
    let reference = |typed: &&str| {
        let (key, _) = typed.trim_start_matches('+').split_once('=')?;
        Some(format!("{key}=${{{key}}}"))
    };
    let references: Option<Vec<String>> = part.iter().map(reference).collect();
    let path_of_each = own_path(shared, &references?.join(","));
    let argument = format!("{key}=\"{}\"", path_of_each.display());
    let mut overrides = job.overrides.clone();
    overrides.push(argument.clone());
    let composed = compose(&Request {
        overrides,
        ..request.clone()
    });
    let leads = composed.is_ok_and(|composed| path(&composed, key).as_deref() == Some(own));
    leads.then_some(argument)
}

/// Returns true for a file, and for a folder with a file in it.
fn is_there(path: &Path) -> bool {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    path.is_file() || entries.map(|entry| entry.path()).any(|path| path.is_file())
}
