//! `inspect runs --group` shows repetitions of a run with other seeds in one line.

use super::identity::{Identity, Lineage};
use super::run::{self, Comparison, Entry, Metrics, Run};
use super::settings::typed;
use super::{Answer, settings};
use crate::report::Table;
use crate::run::manifest;
use crate::words::counted;
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

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
        match spread {
            None => "–".into(),
            Some(spread) if spread.n == runs => spread.percent(" ± "),
            Some(spread) => format!("{} (n={})", spread.percent(" ± "), spread.n),
        }
    }

    /// Returns mean and deviation in percent, with `sign` between them.
    pub fn percent(self, sign: &str) -> String {
        let mean = format!("{:.1}", 100.0 * self.mean);
        match self.std {
            Some(std) => format!("{mean}{sign}{:.1}", 100.0 * std),
            None => mean,
        }
    }
}

/// Holds runs of one stage and what they have in common.
pub struct Found<'a> {
    pub stage: &'a str,
    pub identity: Identity,
    pub members: Vec<&'a Entry>,
}

/// Returns runs that are finished and have an accuracy, put together with their repetitions, and a
/// line for each run that is left out.
pub fn find<'a>(entries: &[&'a Entry]) -> (Vec<Found<'a>>, Vec<String>) {
    let (mut found, mut left_out) = (Vec::<Found>::new(), Vec::new());
    let mut lineage = Lineage::default();
    for &entry in entries {
        let (run, stage) = (&entry.run, entry.run.manifest.stage.as_str());
        if ["split_data", "generate_initial"].contains(&stage) {
            continue;
        }
        if !run.is_done() {
            left_out.push(format!("{} ({})", run.name, run.status()));
        } else if entry.metrics.final_test_accuracy.is_none() {
            left_out.push(match run.lost_metrics() {
                Some(error) => error.what(),
                None => format!("{} (no test accuracy)", run.name),
            });
        } else {
            let identity = lineage.of(run);
            match found
                .iter_mut()
                .find(|group| group.stage == stage && group.identity == identity)
            {
                Some(group) => match group.members.iter().find(|other| is_copy(other, entry)) {
                    Some(other) => {
                        let other = &other.run.name;
                        left_out.push(format!("{} (the same weights as {other})", run.name));
                    }
                    None => group.members.push(entry),
                },
                None => found.push(Found {
                    stage,
                    identity,
                    members: vec![entry],
                }),
            }
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
    leave_out_parts(&mut found, &mut left_out);
    (found, left_out)
}

/// Returns true for runs that ended with the same weights: one is a copy of the other, or differs
/// from it in what changes nothing.
fn is_copy(one: &Entry, other: &Entry) -> bool {
    let weights = |entry: &Entry| {
        let record = entry.run.manifest.output("weights")?;
        Some(record.sha256.clone())
    };
    weights(one).is_some() && weights(one) == weights(other)
}

/// Takes the teachers out of folders in which some are missing: their mean is not that of a split.
/// Those of other architectures are another group of the same folder.
fn leave_out_parts(found: &mut Vec<Found>, left_out: &mut Vec<String>) {
    let mut folders: BTreeMap<PathBuf, (u64, Option<u64>)> = BTreeMap::new();
    let groups = || found.iter().filter(|group| group.stage == "train_teachers");
    for entry in groups().flat_map(|group| &group.members) {
        let folder = folders.entry(entry.run.folder().into()).or_default();
        folder.0 += 1;
        folder.1 = folder.1.or_else(|| nodes(&entry.run));
    }
    folders.retain(|_, (there, nodes)| nodes.is_some_and(|nodes| *there < nodes));
    for (folder, (there, nodes)) in &folders {
        let nodes = nodes.unwrap_or(*there);
        left_out.push(format!(
            "{} ({there} of {nodes} teachers)",
            folder.display()
        ));
    }
    for group in found.iter_mut() {
        let is_whole = |entry: &&Entry| !folders.contains_key(entry.run.folder());
        if group.stage == "train_teachers" {
            group.members.retain(is_whole);
        }
    }
    found.retain(|group| !group.members.is_empty());
}

/// Returns how many nodes the split of a teacher has.
fn nodes(run: &Run) -> Option<u64> {
    if let Some(count) = run.setting("teacher.num_teachers").as_u64() {
        return Some(count);
    }
    let record = run.manifest.input("split")?;
    let (_, made) = manifest::made_as(&record.current_path(&run.path), &record.sha256)?;
    made.facts.get("nodes")?.as_u64()
}

/// Limits the runs that are named as left out.
const NAMED: usize = 8;

/// Warns of the runs that are left out.
pub fn warn_about(left_out: &[String]) {
    if left_out.is_empty() {
        return;
    }
    let more = match left_out.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = &left_out[..left_out.len().min(NAMED)];
    tracing::warn!("left out: {}{more}", named.join(", "));
}

/// Returns the groups of those runs that are finished and have an accuracy; warns about the others.
pub fn groups(entries: &[&Entry]) -> Vec<Group> {
    let (found, left_out) = find(entries);
    warn_about(&left_out);
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
    // What students of the same teachers are compared with is one measurement, whatever their
    // seeds; but the weights of this rule are learnt by each student.
    let of_teachers = |of: fn(&Comparison) -> Option<f64>, is_learnt: bool| {
        let mut seen = HashSet::new();
        let entries = group.members.iter();
        let entries = entries.filter(|entry| is_learnt || seen.insert(teachers(&entry.run)));
        let compared = entries.map(|entry| entry.metrics.comparison.as_ref().and_then(of));
        Spread::of(compared)
    };
    let example = &group.members[0].run;
    let is_learnt = example.setting("student.distill.ensemble") == "weighted_logits";
    let seeds = |entries: &Vec<&Entry>| settings::seeds(&entries[0].run);
    Group {
        stage: group.stage.into(),
        settings,
        runs: repetitions.len(),
        seeds: repetitions.values().map(seeds).collect(),
        last: spread(&|metrics| metrics.final_test_accuracy),
        best: spread(&|metrics| metrics.best_test_accuracy),
        teachers_mean: of_teachers(|comparison| comparison.teachers_mean, false),
        ensemble: of_teachers(|comparison| comparison.ensemble, is_learnt),
        one_shot_average: of_teachers(|comparison| comparison.one_shot_average, false),
    }
}

/// Returns the hashes of the teachers that a run read.
fn teachers(run: &Run) -> Vec<&str> {
    let teachers = run::teachers(&run.manifest);
    teachers.map(|input| input.sha256.as_str()).collect()
}

/// Returns the name of a group's settings, and those in which it differs from the other groups of
/// that name; where it is the only one, what it is about.
fn label(group: &Found, all: &[Found]) -> String {
    let example = &group.members[0].run;
    let name = settings::name(example);
    let is_alike = |other: &&Found| {
        other.stage == group.stage && settings::name(&other.members[0].run) == name
    };
    let others: Vec<&Identity> = all
        .iter()
        .filter(is_alike)
        .map(|other| &other.identity)
        .collect();
    let what = match others.len() {
        1 => settings::summary(example),
        _ => {
            let differing = differing(&group.identity, &others);
            let words = name.map(str::to_owned).into_iter().chain(differing);
            words.collect::<Vec<_>>().join(" ")
        }
    };
    format!("{}, {what}", settings::dataset(example))
}

/// The key of the dataset's fingerprint.
const FINGERPRINT: &str = "dataset";

/// Returns the settings `KEY=VALUE` in which `own` differs from one of `all` at least. The
/// dataset's fingerprint is named where no setting of the dataset tells it from another.
pub fn differing(own: &Identity, all: &[&Identity]) -> Vec<String> {
    let mut settings = without_fingerprint(own, all);
    let has_another = |other: &&&Identity| other.get(FINGERPRINT) != own.get(FINGERPRINT);
    let of_dataset: Vec<_> = all.iter().filter(has_another).collect();
    let is_told = settings
        .iter()
        .any(|setting| setting.starts_with("dataset."));
    let is_alike = |other: &&&Identity| without_fingerprint(other, all) == settings;
    let is_named = !of_dataset.is_empty() && !is_told || of_dataset.iter().any(is_alike);
    if let Some(value) = own.get(FINGERPRINT).filter(|_| is_named) {
        settings.push(format!("{FINGERPRINT}={}", typed(value)));
    }
    settings
}

fn without_fingerprint(own: &Identity, all: &[&Identity]) -> Vec<String> {
    let differs = |(key, value): &(&String, &Value)| {
        *key != FINGERPRINT && all.iter().any(|other| other.get(*key) != Some(*value))
    };
    let told = |(key, value): (&String, &Value)| format!("{key}={}", typed(value));
    own.iter().filter(differs).map(told).collect()
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

/// Returns the groups of `entries` as an answer.
///
/// # Errors
/// Fails for an accuracy that JSON cannot hold.
pub fn answer(entries: &[Entry]) -> Result<Answer> {
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
