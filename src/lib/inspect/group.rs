//! `inspect runs --group`: repetitions of a run with other seeds in one line.

use super::identity::{Identity, Lineage};
use super::run::{Metrics, Run};
use super::{Answer, settings};
use crate::report::Table;
use crate::words::counted;
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Runs that repeat each other.
#[derive(Serialize)]
pub struct Group {
    pub stage: String,
    /// What tells it from the other groups of its stage.
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

/// Mean and sample standard deviation (over n − 1; none for a single value) of shares 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub n: usize,
    pub mean: f64,
    pub std: Option<f64>,
}

impl Spread {
    /// Of the values there are; none if there are none.
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

    /// `98.5 ± 0.5`, in percent; with a `(n=2)` where other columns of its line have `runs` values.
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

type Member<'a> = (&'a Run, &'a Metrics);
/// A stage, what its runs have in common, and these.
type Found<'a> = (&'a str, Identity, Vec<Member<'a>>);

/// Groups of finished runs that have an accuracy.
pub fn groups(runs: &[&Run], metrics: &[Metrics]) -> Vec<Group> {
    let (mut found, mut lineage) = (Vec::<Found>::new(), Lineage::default());
    for (&run, metrics) in runs.iter().zip(metrics) {
        if !run.is_done() || metrics.final_test_accuracy.is_none() {
            continue;
        }
        let stage = run.manifest.stage.as_str();
        let identity = lineage.of(run);
        match found
            .iter_mut()
            .find(|group| group.0 == stage && group.1 == identity)
        {
            Some(group) => group.2.push((run, metrics)),
            None => found.push((stage, identity, vec![(run, metrics)])),
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
    // Only settings that matter on the same dataset are named.
    let dataset = |run: &Run| run.manifest.facts.get("dataset_fingerprint").cloned();
    let mut groups: Vec<Group> = found
        .iter()
        .map(|(stage, identity, members)| {
            let alike = |other: &&Found| {
                other.0 == *stage && dataset(other.2[0].0) == dataset(members[0].0)
            };
            let peers: Vec<&Identity> = found.iter().filter(alike).map(|other| &other.1).collect();
            group(stage, label(identity, &peers, members[0].0), members)
        })
        .collect();
    groups.sort_by(|a, b| a.stage.cmp(&b.stage));
    groups
}

fn group(stage: &str, settings: String, members: &[Member]) -> Group {
    // Teachers of one folder are one repetition.
    let mut repetitions: BTreeMap<PathBuf, Vec<Member>> = BTreeMap::new();
    for &(run, metrics) in members {
        let key = if run.is_student() {
            run.place.clone()
        } else {
            run.folder().to_path_buf()
        };
        repetitions.entry(key).or_default().push((run, metrics));
    }
    let spread = |of: &dyn Fn(&Metrics) -> Option<f64>| {
        let mean = |members: &Vec<Member>| {
            Spread::of(members.iter().map(|member| of(member.1))).map(|s| s.mean)
        };
        Spread::of(repetitions.values().map(mean))
    };
    let compared = |of: fn(&super::run::Comparison) -> Option<f64>| {
        spread(&|metrics| metrics.comparison.as_ref().and_then(of))
    };
    Group {
        stage: stage.into(),
        settings,
        runs: repetitions.len(),
        seeds: repetitions
            .values()
            .map(|members| settings::seeds(members[0].0))
            .collect(),
        last: spread(&|metrics| metrics.final_test_accuracy),
        best: spread(&|metrics| metrics.best_test_accuracy),
        teachers_mean: compared(|comparison| comparison.teachers_mean),
        ensemble: compared(|comparison| comparison.ensemble),
        one_shot_average: compared(|comparison| comparison.one_shot_average),
    }
}

/// The settings in which a group differs from others of its stage; where it is the only one, what
/// it is about.
fn label(own: &Identity, all: &[&Identity], example: &Run) -> String {
    let differs = |(key, value): &&(String, Value)| {
        all.iter().any(|other| {
            other
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value)
                != Some(value)
        })
    };
    let differing: Vec<String> = own
        .iter()
        .filter(differs)
        .map(|(key, value)| format!("{key}={}", settings::typed(value)))
        .collect();
    let what = if all.len() == 1 {
        settings::summary(example)
    } else {
        differing.join(" ")
    };
    format!("{}, {what}", settings::dataset(example))
}

/// The table.
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

/// # Errors
/// None but an accuracy that JSON cannot hold.
pub fn answer(runs: &[Run], metrics: &[Metrics]) -> Result<Answer> {
    let unfinished = runs.iter().filter(|run| !run.is_done()).count();
    if unfinished > 0 {
        tracing::warn!(
            "not finished and left out: {unfinished} of {}",
            counted(runs.len(), "run")
        );
    }
    let groups = groups(&runs.iter().collect::<Vec<_>>(), metrics);
    let text = match groups.is_empty() {
        true => "no finished run has an accuracy yet".into(),
        false => format!(
            "{}\n\nTest accuracy, mean ± sample standard deviation over runs that differ in seeds \
             and places only; teachers: of the means over the nodes.",
            table(&groups)
        ),
    };
    Answer::new(text, groups)
}
