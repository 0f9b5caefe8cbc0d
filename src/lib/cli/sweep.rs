//! What makes the jobs of a sweep (`--multirun`) separate runs: each has a place of its own, and a finished one is skipped when the sweep
//! is run again. Both are done by composing a job once more with further overrides, so its recorded config says the whole truth.

use crate::config::{Composed, Request, compose};
use crate::error::Result;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Gives jobs that would write to one place (`output`: the dotted key of a stage's place) folders named after what they vary, and lets
/// them resume unless they are to overwrite.
pub fn separate(jobs: Vec<Composed>, request: &Request, output: &str) -> Result<Vec<Composed>> {
    if jobs.len() < 2 {
        return Ok(jobs);
    }
    let places: Vec<Option<PathBuf>> = jobs.iter().map(|job| place(job, output)).collect();
    let shared = places.iter().flatten().collect::<HashSet<_>>().len() < places.iter().flatten().count();
    let varied: Vec<Vec<&String>> = jobs
        .iter()
        .map(|job| {
            let common = |argument: &String| jobs.iter().all(|other| other.overrides.contains(argument));
            job.overrides.iter().filter(|argument| !common(argument)).collect()
        })
        .collect();
    let again = |index: usize| {
        let job = &jobs[index];
        let mut overrides = job.overrides.clone();
        if !job.config.resume && !job.config.overwrite {
            overrides.push("resume=true".into());
        }
        if let Some(place) = places[index].as_ref().filter(|_| shared) {
            let own = own_place(place, &varied[index]);
            // Quoted: a path may hold what the value grammar gives a meaning.
            overrides.push(format!("{output}='{}'", own.display().to_string().replace('\'', "\\'")));
        }
        compose(&Request {
            overrides,
            ..request.clone()
        })
    };
    (0..jobs.len()).map(again).collect()
}

/// The value of a dotted key that holds a path.
fn place(job: &Composed, key: &str) -> Option<PathBuf> {
    let tree = serde_json::to_value(&job.config).ok()?;
    let value = tree.pointer(&format!("/{}", key.replace('.', "/")))?;
    value.as_str().map(PathBuf::from)
}

/// `outputs/student` becomes `outputs/student/seed=1`, `outputs/split.json` becomes `outputs/seed=1/split.json`.
fn own_place(place: &Path, varied: &[&String]) -> PathBuf {
    let name: Vec<String> = varied
        .iter()
        .map(|argument| argument.trim_start_matches('+').replace(['/', '\\'], "_"))
        .collect();
    let name = name.join(",");
    match (place.extension(), place.file_name()) {
        (Some(_), Some(file)) => place.with_file_name(name).join(file),
        _ => place.join(name),
    }
}
