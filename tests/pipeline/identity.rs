//! `resume=true` keeps or resumes a run only where the result would be the same: every key of the
//! config, changed one at a time, is refused by every stage unless it is in the tables below.

use crate::common::{self, Place};
use fed_distill::config::schema::recorded;
use fed_distill::config::{Config, Request, compose};
use fed_distill::generator::GeneratorSettings;
use fed_distill::run::manifest::{self, Admission, Earlier, Run, Start, admit};
use fed_distill::run::stages::{ALL, Stage, is_path};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Keys on which no result depends, whatever the stage (`*.` stands for any group). A key ends the
/// test until it either counts or is listed here.
const NOWHERE: &[(&str, &str)] = &[
    ("device", "where to compute"),
    ("deterministic", "which of equally right sums a GPU takes"),
    ("threads", "how many cores compute"),
    ("resume", "how to deal with an earlier run"),
    ("overwrite", "how to deal with an earlier run"),
    ("outputs", "what the paths begin with"),
    ("tensorboard", "a copy of the metrics"),
    ("checkpoint.every", "how much an interrupted run loses"),
    ("ranks.timeout", "how long to wait for a rank"),
    ("dataset.download", "how the files came to where they are"),
    (
        "fed_md.public.download",
        "how the files came to where they are",
    ),
    ("*.eval_batch_size", "speed and memory of the evaluation"),
    ("teacher.in_memory", "memory"),
    ("student.distill.cache_mib", "memory"),
    ("fed_avg.ranks", "who trains a node, not how"),
    ("fed_md.ranks", "who trains a client, not how"),
];

/// What more each stage does not depend on: groups that it does not read, keys of others, and the
/// place that it writes to, where it finds the earlier run.
fn elsewhere(stage: &str) -> &'static [&'static str] {
    match stage {
        "split_data" => &[
            "split.save_path",
            "precision",
            "model",
            "teacher",
            "deep_inv",
            "generator",
            "initial",
            "student",
            "fed_avg",
            "fed_md",
            "distributed_sgd",
        ],
        "train_teachers" => &[
            "teacher.save_folder",
            // One teacher does not depend on how many others there are, or on who trains them.
            "teacher.num_teachers",
            "teacher.only",
            // What the server makes of a card.
            "teacher.counts_from",
            "deep_inv",
            "generator",
            "initial",
            "student",
            "fed_avg",
            "fed_md",
            "distributed_sgd",
        ],
        "generate_initial" => &[
            "initial.save_path",
            // The teachers' files hold their architecture, and what training made of them.
            "model",
            "teacher.shared_initialisation",
            "teacher.epochs",
            "teacher.batch_size",
            "teacher.optimizer",
            "teacher.schedule",
            "teacher.augment",
            "teacher.selection",
            "teacher.eval_every",
            "teacher.validation_share",
            "teacher.count_step",
            "teacher.index",
            "teacher.label_counts",
            // Inversion against a student, of which there is none yet.
            "deep_inv.adi",
            "student",
            "fed_avg",
            "fed_md",
            "distributed_sgd",
        ],
        "train_student" => &[
            "student.save_folder",
            "model",
            "teacher.shared_initialisation",
            "teacher.epochs",
            "teacher.batch_size",
            "teacher.optimizer",
            "teacher.schedule",
            "teacher.augment",
            "teacher.selection",
            "teacher.eval_every",
            "teacher.validation_share",
            "teacher.count_step",
            "teacher.index",
            "teacher.label_counts",
            "fed_avg",
            "fed_md",
            "distributed_sgd",
        ],
        "fed_avg" | "fed_md" => &[
            // Of the teachers' settings a baseline takes the number of nodes that take part.
            "teacher.only",
            "teacher.shared_initialisation",
            "teacher.save_folder",
            "teacher.epochs",
            "teacher.batch_size",
            "teacher.optimizer",
            "teacher.schedule",
            "teacher.augment",
            "teacher.selection",
            "teacher.eval_every",
            "teacher.validation_share",
            "teacher.count_step",
            "teacher.index",
            "teacher.label_counts",
            "teacher.counts_from",
            "deep_inv",
            "generator",
            "initial",
            "student",
            "distributed_sgd",
        ],
        "distributed_sgd" => &[
            "distributed_sgd.save_folder",
            "split",
            "teacher",
            "deep_inv",
            "generator",
            "initial",
            "student",
            "fed_avg",
            "fed_md",
        ],
        other => panic!("{other} is not in the table"),
    }
}

/// The baseline's own place, and the other's group.
fn of_baseline(stage: &str) -> &'static [&'static str] {
    match stage {
        "fed_avg" => &["fed_avg.save_folder", "fed_md"],
        "fed_md" => &["fed_md.save_folder", "fed_avg"],
        _ => &[],
    }
}

fn covers(pattern: &str, key: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => key.ends_with(end),
        None => {
            key == pattern
                || key
                    .strip_prefix(pattern)
                    .is_some_and(|rest| rest.starts_with('.'))
        }
    }
}

/// Configs that between them hold every key there is.
fn configs() -> Vec<Value> {
    let composed = |overrides: &[String]| {
        let request = Request {
            overrides: overrides.to_vec(),
            config_dir: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/config").into()),
            config_name: None,
        };
        serde_json::to_value(compose(&request).unwrap().config).unwrap()
    };
    let mut optional = serde_json::to_value(Config::default()).unwrap();
    optional["student"]["model"] = optional["model"].clone();
    optional["fed_md"]["public"] = optional["dataset"].clone();
    optional["generator"] = serde_json::to_value(GeneratorSettings::default()).unwrap();
    let tree = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/config/split")).unwrap();
    let splits = tree.map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        composed(&[format!("+split={}", name.trim_end_matches(".yaml"))])
    });
    let wider = composed(&["split={kind: quantity_skew, sizes: log_normal, sigma: 0.3}".into()]);
    [optional, wider].into_iter().chain(splits).collect()
}

/// Every key, with a config and the same config in which it has another value.
fn changes() -> BTreeMap<String, (Value, Value)> {
    let mut changes = BTreeMap::new();
    for config in configs() {
        let mut paths = Vec::new();
        leaves(&config, "", &mut paths);
        for path in paths {
            let mut changed = config.clone();
            let leaf = changed.pointer_mut(&path).unwrap();
            *leaf = other(leaf);
            let key = path[1..].replace('/', ".");
            changes.entry(key).or_insert((config.clone(), changed));
        }
    }
    changes
}

fn leaves(value: &Value, path: &str, paths: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(value, &format!("{path}/{key}"), paths);
            }
        }
        _ => paths.push(path.to_owned()),
    }
}

fn other(value: &Value) -> Value {
    match value {
        Value::Null => json!(1),
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => json!(number.as_f64().unwrap() + 1.0),
        Value::String(text) => json!(format!("{text}x")),
        Value::Array(items) => json!([items.as_slice(), &[json!(1)]].concat()),
        Value::Object(_) => unreachable!("no leaf"),
    }
}

/// A manifest of a run of `stage` with `config`; done, or broken off.
fn earlier(stage: &Stage, config: &Value, done: bool) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("result.json");
    let start = Start {
        stage: stage.name.into(),
        overrides: Vec::new(),
        config: config.clone(),
        seeds: BTreeMap::new(),
        device: "cpu".into(),
        threads: 1,
        result: output.clone(),
    };
    let mut run = Run::prepare(&manifest::beside(&output), start);
    run.begin(Earlier::Nothing).unwrap();
    if done {
        std::fs::write(&output, b"{}").unwrap();
        run.output("result", &output).unwrap();
        run.finish().unwrap();
    }
    (folder, output)
}

#[test]
fn resume_refuses_every_key_that_the_result_depends_on_and_no_other() {
    let changes = changes();
    assert!(changes.len() > 150, "{}", changes.len());
    for stage in ALL {
        let listed: Vec<&str> = NOWHERE
            .iter()
            .map(|(key, _)| *key)
            .chain(elsewhere(stage.name).iter().copied())
            .chain(of_baseline(stage.name).iter().copied())
            .collect();
        for pattern in &listed {
            assert!(
                changes.keys().any(|key| covers(pattern, key)),
                "{pattern} is no key"
            );
        }
        for done in [true, false] {
            let mut last: Option<(Value, tempfile::TempDir, std::path::PathBuf)> = None;
            for (key, (config, changed)) in &changes {
                let (_, _, output) = match &last {
                    Some(earlier) if earlier.0 == *config => earlier,
                    _ => {
                        let (folder, output) = earlier(stage, config, done);
                        last.insert((config.clone(), folder, output))
                    }
                };
                let again = |config: &Value| {
                    let identity = stage.identity(config);
                    admit(&manifest::beside(output), true, false, output, &identity)
                };
                let kept = if done {
                    Admission::Done
                } else {
                    Admission::Continue
                };
                assert_eq!(again(config).unwrap(), kept);
                let free = listed.iter().any(|pattern| covers(pattern, key));
                match again(changed) {
                    // What lies there is compared by the caller.
                    Ok(admission) if is_path(key) && !free && done => {
                        assert_eq!(admission, Admission::DoneElsewhere, "{key}");
                    }
                    Ok(admission) => {
                        let free = free || is_path(key);
                        assert!(free, "{} resumes with another `{key}`", stage.name);
                        assert_eq!(admission, kept);
                    }
                    Err(error) => {
                        assert!(!free, "{} refuses another `{key}`: {error}", stage.name);
                        let line = format!("differs: {key}: ");
                        assert!(error.to_string().contains(&line), "{key}: {error}");
                    }
                }
            }
        }
    }
}

/// A run of an earlier version did not know every key of this one.
#[test]
fn a_key_that_is_new_had_its_default() {
    let whole = serde_json::to_value(Config::default()).unwrap();
    for config in configs() {
        assert_eq!(recorded(&config), config, "nothing is missing");
    }
    for stage in ALL {
        let mut keys = Vec::new();
        leaves(&whole, "", &mut keys);
        // The kind of a group was always there.
        for key in keys.iter().filter(|key| !key.ends_with("/kind")) {
            let mut before = whole.clone();
            let (group, name) = key.rsplit_once('/').unwrap();
            let group = before.pointer_mut(group).unwrap();
            group.as_object_mut().unwrap().remove(name).unwrap();
            assert_eq!(stage.identity(&before), stage.identity(&whole), "{key}");
        }
        let mut before = whole.clone();
        before.as_object_mut().unwrap().remove("student").unwrap();
        let admitted = |before: &Value| {
            let (_folder, output) = earlier(stage, before, true);
            let path = manifest::beside(&output);
            admit(&path, true, false, &output, &stage.identity(&whole))
        };
        assert_eq!(admitted(&before).unwrap(), Admission::Done);
        // A key that has another name now must not pass as its default.
        before["dataset"]["of_another_version"] = json!(1);
        let error = admitted(&before).unwrap_err().to_string();
        let line = "differs: dataset.of_another_version: 1 then, unknown now";
        assert!(error.contains(line), "{error}");
    }
}

/// A key of another version of this program counts, wherever it stood.
#[test]
fn an_unknown_key_of_a_group_counts() {
    for stage in ALL {
        let mut config = serde_json::to_value(Config::default()).unwrap();
        let own = stage.keys.len() - 1;
        let group = stage.groups().last().unwrap();
        assert!(own > 0 && config[group].is_object());
        config[group]["of_another_version"] = json!(1);
        let counted = stage.identity(&config)[group].clone();
        let keys = counted.as_object().map_or_else(Map::new, Map::clone);
        // A group of which only some keys count names those that do.
        let whole = stage.name != "train_teachers";
        assert_eq!(
            keys.contains_key("of_another_version"),
            whole,
            "{}",
            stage.name
        );
    }
}

#[test]
fn the_binaries_go_by_it() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("split_data", &["seed=9", "split.save_path=other.json"]);
    place.ok("train_teachers", &[]);
    let kept = |stage: &str, more: &[&str]| {
        let (code, _, errors) =
            place.run_with(stage, common::TINY, &[more, &["resume=true"]].concat());
        (code == 0 && errors.contains("already"), errors)
    };
    let here = place.path("split.json");
    let absolute = format!("split.save_path={}", here.display());
    for (stage, more) in [
        ("split_data", vec![absolute.as_str(), "model.width=8"]),
        (
            "split_data",
            vec!["dataset.download=false", "student.epochs=9"],
        ),
        (
            "train_teachers",
            vec!["teacher.num_teachers=1", "teacher.eval_batch_size=7"],
        ),
        (
            "train_teachers",
            vec!["teacher.only=[1]", "deep_inv.adi.input_jitter=false"],
        ),
        ("train_teachers", vec![absolute.as_str()]),
    ] {
        let (kept, errors) = kept(stage, &more);
        assert!(kept, "{stage} {more:?}: {errors}");
    }
    for (stage, more, key) in [
        (
            "split_data",
            "split.unif_percentage=0.5",
            "split.unif_percentage: 1.0 then, 0.5 now",
        ),
        (
            "train_teachers",
            "teacher.schedule.gamma=0.2",
            "teacher.schedule.gamma: 0.1 then, 0.2 now",
        ),
        (
            "train_teachers",
            "split.save_path=other.json",
            "split: sha256 ",
        ),
        ("train_teachers", "split.save_path=null", "split: sha256 "),
    ] {
        let (kept, errors) = kept(stage, &[more]);
        assert!(!kept && errors.contains(key), "{stage} {more}: {errors}");
    }
}
