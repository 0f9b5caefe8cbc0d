//! Finds settings that change nothing: those that no other setting lets the stage read, and
//! overrides that a stage does not read. One set of overrides often serves all stages, so
//! this is no mistake, and many of them need no message; but who types `split_data
//! teacher.epochs=5` alone should see that it has no effect.

use crate::config::{Composed, Request, compose};
use crate::run::stages::Stage;

/// Returns a line for each setting of the stage that has no effect in any of the jobs.
pub fn without_effect(stage: &Stage, jobs: &[Composed]) -> Vec<String> {
    let Some((first, others)) = jobs.split_first() else {
        return Vec::new();
    };
    let mut idle = first.without_effect();
    idle.retain(|idle| stage.depends_on(&idle.key));
    for job in others {
        if idle.is_empty() {
            break;
        }
        let there = job.without_effect();
        idle.retain(|idle| there.iter().any(|other| other.key == idle.key));
    }
    idle.into_iter().map(|idle| idle.line).collect()
}

/// Limits the unread overrides that are reported: more than this are one set for all stages.
const FEW: usize = 3;

/// Returns a line that names the overrides of `job` without which `stage` would do the same, if
/// there are some and not many.
pub fn line(stage: &Stage, job: &Composed, request: &Request) -> Option<String> {
    let unread: Vec<String> = (0..job.overrides.len())
        .filter(|&index| !reads(stage, job, index, request))
        .map(|index| format!("`{}`", job.overrides[index]))
        .collect();
    (1..=FEW)
        .contains(&unread.len())
        .then(|| format!("{} does not read {}", stage.name, unread.join(", ")))
}

/// Returns the group of an override: `student` of `++student.epochs=5` and of
/// `student=1_teacher_paper`.
fn group(typed: &str) -> &str {
    let key = typed.trim_start_matches(['+', '~']);
    key.split(['.', '=']).next().unwrap_or(key)
}

/// Returns true if an override is of a group that the stage reads, or changes something in one: by
/// a reference, or as the name of a file that sets keys of several groups.
fn reads(stage: &Stage, job: &Composed, index: usize, request: &Request) -> bool {
    let group = group(&job.overrides[index]);
    if stage.reads(group) || stage.groups().any(|known| known == group) {
        return true;
    }
    let mut overrides = job.overrides.clone();
    overrides.remove(index);
    let without = compose(&Request {
        overrides,
        ..request.clone()
    });
    let part = |job: &Composed| stage.part(serde_json::to_value(&job.config).unwrap_or_default());
    // What cannot be composed without it needs it.
    without.map_or(true, |without| part(&without) != part(job))
}
