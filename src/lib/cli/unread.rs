//! Overrides that a stage does not look at. One set of overrides often serves all stages, so this is no mistake; but who types
//! `split_data teacher.epochs=5` alone should see that nothing comes of it.

use super::Stage;
use crate::config::{Composed, Request, compose};
use serde_json::Value;

/// Keys at the top that every stage reads.
const EVERYWHERE: [&str; 5] = ["seed", "device", "threads", "resume", "overwrite"];
/// More overrides than this are summed up by their groups.
const SHOWN: usize = 3;

/// A line that names the overrides of `job` without which `stage` would do the same; none when it reads all.
pub fn line(stage: &Stage, job: &Composed, request: &Request) -> Option<String> {
    let unread: Vec<&String> = (0..job.overrides.len())
        .filter(|&index| !reads(stage, job, index, request))
        .map(|index| &job.overrides[index])
        .collect();
    let name = stage.name;
    match unread.len() {
        0 => None,
        1..=SHOWN => {
            let typed: Vec<String> = unread.iter().map(|typed| format!("`{typed}`")).collect();
            Some(format!("{name} does not read {}", typed.join(", ")))
        }
        count => {
            let mut groups: Vec<&str> = unread.iter().map(|typed| group(typed)).collect();
            groups.sort_unstable();
            groups.dedup();
            Some(format!(
                "{name} does not read {count} of the overrides: those of {}",
                groups.join(", ")
            ))
        }
    }
}

/// `student` of `++student.epochs=5` and of `student=1_teacher_paper`.
fn group(typed: &str) -> &str {
    let key = typed.trim_start_matches(['+', '~']);
    key.split(['.', '=']).next().unwrap_or(key)
}

/// Whether an override is of a group that the stage reads, or changes something in one: by a reference, or as the name of a file that
/// sets keys of several groups.
fn reads(stage: &Stage, job: &Composed, index: usize, request: &Request) -> bool {
    let known = |group: &str| stage.groups.contains(&group) || EVERYWHERE.contains(&group);
    if known(group(&job.overrides[index])) {
        return true;
    }
    let mut overrides = job.overrides.clone();
    overrides.remove(index);
    let without = compose(&Request {
        overrides,
        ..request.clone()
    });
    let part = |job: &Composed| {
        let mut config = serde_json::to_value(&job.config).unwrap_or(Value::Null);
        if let Some(keys) = config.as_object_mut() {
            keys.retain(|group, _| known(group));
        }
        config
    };
    // What cannot be composed without it needs it.
    without.map_or(true, |without| part(&without) != part(job))
}
