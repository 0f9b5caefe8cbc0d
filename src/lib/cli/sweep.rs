//! Makes the jobs of a sweep (`--multirun`) separate runs: each writes to a path of its own, and a
//! finished one is skipped when the sweep is run again. Both are done by composing a job once more
//! with further overrides, so that its recorded config is complete.
//! [`chained`](super::chained) checks that each job reads what is meant for it.

use crate::artifact::hash;
use crate::config::{Composed, Request, compose, quoted};
use crate::error::Error;
use crate::runtime::progress::Progress;
use anyhow::{Result, bail};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// Limits the bytes of a folder's name; file systems take 255.
const LONGEST: usize = 200;

/// Gives jobs that would write to one path (`output`: the dotted key of a stage's output) folders
/// named after what they vary, and lets them resume unless they are to overwrite. A job that is of
/// no sweep (`is_sweep`) stays as it is.
///
/// # Errors
/// Fails when the sweep lists a value twice: its jobs would be the same run (usage).
pub fn separate(
    jobs: Vec<Composed>,
    request: &Request,
    (output, is_sweep): (&str, bool),
) -> Result<Vec<Composed>> {
    if !is_sweep {
        return Ok(jobs);
    }
    let varied = varied(&jobs);
    let mut first: HashMap<&[&str], usize> = HashMap::new();
    for (index, job) in varied.iter().enumerate() {
        if let Some(other) = first.insert(job, index) {
            // Nothing varies where all jobs are the same.
            let typed = match job.as_slice() {
                [] => jobs[index].overrides.join(" "),
                varied => varied.join(" "),
            };
            bail!(
                Error::usage(format!(
                    "jobs {} and {} of this sweep are the same",
                    other + 1,
                    index + 1
                ))
                .note("from", format!("command line `{typed}`"))
                .hint("list each value once")
            );
        }
    }
    warn_of_repeated(&jobs, &varied);
    let paths: Vec<Option<PathBuf>> = jobs.iter().map(|job| path(job, output)).collect();
    let mut seen: Vec<PathBuf> = paths.iter().flatten().map(|path| plain(path)).collect();
    seen.sort();
    let shared = seen.windows(2).any(|pair| pair[0] == pair[1]);
    let again = |index: usize| {
        let job = &jobs[index];
        let mut overrides = job.overrides.clone();
        if !*job.config.resume && !*job.config.overwrite {
            overrides.push("resume=true".into());
        }
        if let Some(path) = paths[index].as_ref().filter(|_| shared) {
            let own = own_path(path, &folder_name(&varied[index]));
            // Quoted: a path may hold what the value grammar gives a meaning.
            overrides.push(format!("{output}={}", quoted(&own.display().to_string())));
        }
        Ok(compose(&Request {
            overrides,
            ..request.clone()
        })?)
    };
    let progress = Progress::new("giving the jobs their folders", jobs.len() as u64);
    (0..jobs.len())
        .inspect(|_| progress.step())
        .map(again)
        .collect()
}

/// Warns of jobs whose configs are equal although what was typed differs: `seed=7,7.0`.
fn warn_of_repeated(jobs: &[Composed], varied: &[Vec<&str>]) {
    // Hashes, since the configs of all jobs are large.
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut repeated = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let config = serde_json::to_vec(&job.config).unwrap_or_default();
        if let Some(other) = seen.insert(hash::bytes(&config), index) {
            repeated.push((other, index));
        }
    }
    if let Some(&(other, index)) = repeated.first() {
        let more = match repeated.len() {
            1 => String::new(),
            count => format!("; {count} jobs of this sweep repeat another"),
        };
        tracing::warn!(
            "jobs {} and {} of this sweep have the same config: `{}` and `{}` will hold the same \
             result{more}",
            other + 1,
            index + 1,
            folder_name(&varied[other]),
            folder_name(&varied[index]),
        );
    }
}

/// Adds to the error of a job that cannot resume that the sweep asked for it, and not the user.
pub fn explained(error: anyhow::Error) -> anyhow::Error {
    let error = Error::from(error);
    match error.is_of_resume() {
        true => error.hint(
            "every job of a sweep has `resume=true`, so that those that are done are not run again",
        ),
        false => error,
    }
    .into()
}

/// Returns the overrides of each job that differ between jobs. They are compared position by
/// position: an override typed once gives every job one, so that a key given twice (`seed=1
/// seed=1,2`) is told apart by its position.
pub(super) fn varied(jobs: &[Composed]) -> Vec<Vec<&str>> {
    let at = |job: &Composed, index: usize| job.overrides.get(index).cloned();
    let count = jobs.first().map_or(0, |job| job.overrides.len());
    let varies = |index: &usize| {
        jobs.windows(2)
            .any(|pair| at(&pair[0], *index) != at(&pair[1], *index))
    };
    let indices: Vec<usize> = (0..count).filter(varies).collect();
    jobs.iter()
        .map(|job| {
            let own = indices.iter().filter_map(|&index| job.overrides.get(index));
            own.map(String::as_str).collect()
        })
        .collect()
}

/// Returns the value of a dotted key that holds a path.
pub(super) fn path(job: &Composed, key: &str) -> Option<PathBuf> {
    let tree = serde_json::to_value(&job.config).ok()?;
    let value = tree.pointer(&format!("/{}", key.replace('.', "/")))?;
    value.as_str().map(PathBuf::from)
}

/// Returns a path without `.` and `..`, to tell whether two are the same.
fn plain(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut plain = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

/// Returns the name of a folder, `seed=1,student.epochs=5`: another name for every other list of
/// overrides. What a file's name cannot hold, or would be taken for a reference, is escaped as in a
/// URL; a name that is too long ends in a hash of the whole.
pub(super) fn folder_name(varied: &[&str]) -> String {
    let escaped = |argument: &&str| {
        let argument = argument.trim_start_matches('+').replace('%', "%25");
        argument
            .replace('/', "%2F")
            .replace('\\', "%5C")
            .replace('$', "%24")
    };
    let name = varied.iter().map(escaped).collect::<Vec<_>>().join(",");
    if name.len() <= LONGEST {
        return name;
    }
    let end = (0..=LONGEST)
        .rev()
        .find(|&at| name.is_char_boundary(at))
        .unwrap_or(0);
    format!("{}…{}", &name[..end], &hash::bytes(name.as_bytes())[..16])
}

/// Returns a job's own path: `outputs/student` becomes `outputs/student/seed=1`,
/// `outputs/split.json` becomes `outputs/seed=1/split.json`.
pub(super) fn own_path(path: &Path, name: &str) -> PathBuf {
    match (path.extension(), path.file_name()) {
        (Some(_), Some(file)) => path.with_file_name(name).join(file),
        _ => path.join(name),
    }
}
