//! `inspect runs --group` shows repetitions of a run with other seeds in one line.

use super::identity::{Identity, Lineage};
use super::run::{Comparison, Entry, Metrics};
use super::settings::typed;
use super::{Answer, settings};
use crate::report::Table;
use crate::words::counted;
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Describes runs that repeat each other.
#[derive(Serialize)]
pub struct Group {
    pub stage: String,
    /// What distinguishes it from the other groups of its stage.
    pub settings: String,
    /// Repetitions: runs of a student, or folders of teachers (whose accuracy is the mean over the
    /// nodes).
    pub runs: usize,
    pub seeds: Vec<String>,
    #[serde(rename = "final")]
    pub last: Option<Spread>,
    pub best: Option<Spread>,
    pub teachers_mean: Option<Spread>,
    pub ensemble: Option<Spread>,
    pub one_shot_average: Option<Spread>,
}

/// Holds mean and sample standard deviation (over n − 1; none for a single value) of shares 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub n: usize,
    pub mean: f64,
    pub std: Option<f64>,
}

impl Spread {
    /// Returns the spread of the values there are; `None` if there are none.
    pub fn of(values: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let values: Vec<f64> = values.flatten().collect();
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (n > 0).then(|| Self {
            n,
            mean,
            std: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
        })
    }

    /// Returns `98.5 ± 0.5`, in percent; with a `(n=2)` where other columns of its line have `runs`
    /// values.
    fn text(spread: Option<Self>, runs: usize) -> String {
        let Some(spread) = spread else {
            return "–".into();
        };
        let mean = format!("{:.1}", 100.0 * spread.mean);
        let text = spread
            .std
            .map_or(mean.clone(), |std| format!("{mean} ± {:.1}", 100.0 * std));
        if spread.n == runs {
            text
        } else {
            format!("{text} (n={})", spread.n)
        }
    }
}

/// Holds runs of one stage and what they have in common.
struct Found<'a> {
    stage: &'a str,
    identity: Identity,
    members: Vec<&'a Entry>,
}

/// Returns the groups of those runs that are finished and have an accuracy.
pub fn groups(entries: &[&Entry]) -> Vec<Group> {
    let (mut found, mut lineage) = (Vec::<Found>::new(), Lineage::default());
    for &entry in entries {
        if !entry.run.is_done() || entry.metrics.final_test_accuracy.is_none() {
            continue;
        }
        let stage = entry.run.manifest.stage.as_str();
        let identity = lineage.of(&entry.run);
        match found
            .iter_mut()
            .find(|group| group.stage == stage && group.identity == identity)
        {
            Some(group) => group.members.push(entry),
            None => found.push(Found {
                stage,
                identity,
                members: vec![entry],
            }),
        }
    }
    if lineage.unknown() > 0 {
        tracing::warn!(
            "no manifest says how {} of these runs {} made: runs that read others are kept apart",
            counted(lineage.unknown(), "input"),
            if lineage.unknown() == 1 {
                "was"
            } else {
                "were"
            }
        );
    }
    let group = |group: &Found| summarised(group, label(group, &found));
    let mut groups: Vec<Group> = found.iter().map(group).collect();
    groups.sort_by(|a, b| a.stage.cmp(&b.stage));
    groups
}

/// Returns the means over a group's repetitions.
fn summarised(group: &Found, settings: String) -> Group {
    // Teachers of one folder are one repetition.
    let mut repetitions: BTreeMap<&Path, Vec<&Entry>> = BTreeMap::new();
    for entry in &group.members {
        let key = match entry.run.is_student() {
            true => entry.run.path.as_path(),
            false => entry.run.folder(),
        };
        repetitions.entry(key).or_default().push(entry);
    }
    let spread = |of: &dyn Fn(&Metrics) -> Option<f64>| {
        let mean = |entries: &Vec<&Entry>| {
            Spread::of(entries.iter().map(|entry| of(&entry.metrics))).map(|s| s.mean)
        };
        Spread::of(repetitions.values().map(mean))
    };
    let compared = |of: fn(&Comparison) -> Option<f64>| {
        spread(&|metrics| metrics.comparison.as_ref().and_then(of))
    };
    let seeds = |entries: &Vec<&Entry>| settings::seeds(&entries[0].run);
    Group {
        stage: group.stage.into(),
        settings,
        runs: repetitions.len(),
        seeds: repetitions.values().map(seeds).collect(),
        last: spread(&|metrics| metrics.final_test_accuracy),
        best: spread(&|metrics| metrics.best_test_accuracy),
        teachers_mean: compared(|comparison| comparison.teachers_mean),
        ensemble: compared(|comparison| comparison.ensemble),
        one_shot_average: compared(|comparison| comparison.one_shot_average),
    }
}

/// Limits the differing settings that a group is described by: methods differ in dozens.
const SHOWN: usize = 6;

/// Returns the method of a group and the settings in which it differs from the others of its stage
/// and dataset; where it is the only one, what it is about.
fn label(group: &Found, all: &[Found]) -> String {
    let example = &group.members[0].run;
    let dataset = |group: &Found| {
        group.members[0]
            .run
            .manifest
            .fingerprint()
            .map(str::to_owned)
    };
    let others: Vec<&Found> = all
        .iter()
        .filter(|other| other.stage == group.stage && dataset(other) == dataset(group))
        .collect();
    let differs = |(key, value): &(&String, &Value)| {
        others
            .iter()
            .any(|other| other.identity.get(*key) != Some(*value))
    };
    let what = match others.len() {
        1 => settings::summary(example),
        _ => {
            let differing = group.identity.iter().filter(differs);
            let settings = differing.map(|(key, value)| format!("{key}={}", typed(value)));
            let settings: Vec<String> = settings.collect();
            let method = settings::method(example).map(|method| format!("+method={method}"));
            let shown = settings.iter().take(SHOWN).cloned();
            let words: Vec<String> = method.into_iter().chain(shown).collect();
            match settings.len().saturating_sub(SHOWN) {
                0 => words.join(" "),
                more => format!("{} and {more} more", words.join(" ")),
            }
        }
    };
    format!("{}, {what}", settings::dataset(example))
}

/// Returns a table with a line for each group.
pub fn table(groups: &[Group]) -> Table {
    let mut table = Table::new(&[
        "stage",
        "settings",
        "runs",
        "seeds",
        "final %",
        "best %",
        "teachers %",
        "ensemble %",
        "one-shot %",
    ]);
    for group in groups {
        let text = |spread| Spread::text(spread, group.runs);
        table.row(vec![
            group.stage.clone(),
            group.settings.clone(),
            group.runs.to_string(),
            group.seeds.join("; "),
            text(group.last),
            text(group.best),
            text(group.teachers_mean),
            text(group.ensemble),
            text(group.one_shot_average),
        ]);
    }
    table
}

/// Returns the groups of `entries` as an answer; warns about runs that are not finished.
///
/// # Errors
/// Fails for an accuracy that JSON cannot hold.
pub fn answer(entries: &[Entry]) -> Result<Answer> {
    let unfinished = entries.iter().filter(|entry| !entry.run.is_done()).count();
    if unfinished > 0 {
        tracing::warn!(
            "not finished and left out: {unfinished} of {}",
            counted(entries.len(), "run")
        );
    }
    let groups = groups(&entries.iter().collect::<Vec<_>>());
    let text = match groups.is_empty() {
        true => "no finished run has an accuracy yet".into(),
        false => format!(
            "{}\n\nTest accuracy, mean ± sample standard deviation over runs that differ in seeds \
             and paths only; teachers: of the means over the nodes.",
            table(&groups)
        ),
    };
    Answer::new(text, groups)
}
