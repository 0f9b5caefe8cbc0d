//! Teachers and initial batches shared out over ranks.

use crate::common::Place;
use crate::job::{self, Job};
use crate::{each, with};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const OPTIONS: [&str; 3] = [
    "split.num_nodes=3",
    "initial.num_batches=5",
    "deep_inv.di.grad_updates_batch=40",
];

/// The content of every file that two runs must have in common: of manifests all but times, and no
/// logs or events.
fn results(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    collect(&place.path("."), "", &mut found);
    found
}

fn collect(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), found);
        } else if name.contains("manifest") {
            found.insert(name, manifest(&path));
        } else if !name.ends_with(".log")
            && !name.contains("tfevents")
            && !name.starts_with("mpirun.")
        {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
}

fn manifest(path: &Path) -> Vec<u8> {
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for key in ["started", "ended", "resumed", "earlier_seconds", "argv"] {
        manifest.as_object_mut().unwrap().shift_remove(key);
    }
    // `resume=true` of a run that was resumed.
    if let Some(config) = manifest["config"].as_object_mut() {
        config.shift_remove("resume");
    }
    if let Some(list) = manifest["overrides"].as_array_mut() {
        list.retain(|item| item != "resume=true");
    }
    manifest.to_string().into_bytes()
}

fn same(a: &Place, b: &Place) {
    let (ours, theirs) = (results(a), results(b));
    assert_eq!(
        ours.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>()
    );
    let differing: Vec<&String> = ours
        .keys()
        .filter(|name| ours[*name] != theirs[*name])
        .collect();
    // A resumed run has another command line.
    let differing: Vec<&&String> = differing
        .iter()
        .filter(|name| !name.contains("hydra"))
        .collect();
    assert!(differing.is_empty(), "{differing:?}");
}

#[test]
fn teachers_and_batches_are_those_of_one_process() {
    let options = with(&OPTIONS, &[]);
    let (alone, ranks) = (Place::new(), Place::new());
    for place in [&alone, &ranks] {
        assert_eq!(place.run_with("split_data", &options, &[]).0, 0);
    }
    for stage in ["train_teachers", "generate_initial"] {
        let (code, table, errors) = alone.run_with(stage, &options, &[]);
        assert_eq!(code, 0, "{errors}");
        let ended = job::ok(&ranks, 2, stage, options.clone());
        assert_eq!(ended.out, table, "{}", ended.errors);
        same(&alone, &ranks);
    }
}

/// Rank 1 makes files that nobody else may read, rank 0 those that everybody may: teachers 1 and 3
/// are all rank 1's, teachers 0 and 2 all rank 0's.
#[test]
fn a_teachers_files_are_written_by_its_rank() {
    let place = Place::new();
    let options = with(&OPTIONS, &["split.num_nodes=4"]);
    assert_eq!(place.run_with("split_data", &options, &[]).0, 0);
    let stage = job::binary("train_teachers");
    let under = |mask: &'static str| {
        let shell = vec!["-c", mask, stage.to_str().unwrap()];
        (1, PathBuf::from("sh"), [shell, options.clone()].concat())
    };
    let ranks = [
        under("umask 022; exec \"$0\" \"$@\""),
        under("umask 077; exec \"$0\" \"$@\""),
    ];
    let ended = Job::start(&place, &ranks).end(&place);
    assert_eq!(ended.code, 0, "{}", ended.errors);
    let mode = |name: String| {
        let data = std::fs::metadata(place.path(&format!("teachers/{name}"))).unwrap();
        data.permissions().mode() & 0o777
    };
    for node in 0..4 {
        let wanted = if node % 2 == 0 { 0o644 } else { 0o600 };
        for file in [
            format!("model_teacher{node}.safetensors"),
            format!("manifest_teacher{node}.json"),
            format!("metrics_teacher{node}.json"),
        ] {
            assert_eq!(mode(file.clone()), wanted, "{file}");
        }
    }
}

#[test]
fn teachers_resume_after_a_killed_rank() {
    let options = with(&OPTIONS, &["teacher.epochs=200", "checkpoint.every=0"]);
    let (calm, killed) = (Place::new(), Place::new());
    for place in [&calm, &killed] {
        assert_eq!(place.run_with("split_data", &options, &[]).0, 0);
    }
    assert_eq!(calm.run_with("train_teachers", &options, &[]).0, 0);
    let mut job = Job::start(
        &killed,
        &[(3, job::binary("train_teachers"), options.clone())],
    );
    for node in 0..3 {
        let checkpoint = format!("teachers/checkpoint_teacher{node}/training.safetensors");
        job.wait_for(&killed, &checkpoint, 1);
    }
    job.kill(2, &[0, 1]);
    let ended = job.end(&killed);
    each(&ended, &[0, 1], &["rank 2"]);
    let statuses = [0, 1, 2].map(|node| {
        let manifest =
            std::fs::read(killed.path(&format!("teachers/manifest_teacher{node}.json"))).unwrap();
        serde_json::from_slice::<Value>(&manifest).unwrap()["status"].clone()
    });
    // Each rank has the teacher of its number, and records that it was stopped if it can.
    assert_eq!(statuses, ["interrupted", "interrupted", "running"]);
    let ended = job::ok(
        &killed,
        2,
        "train_teachers",
        [&options[..], &["resume=true"]].concat(),
    );
    assert!(
        ended.errors.contains("resuming from epoch"),
        "{}",
        ended.errors
    );
    same(&calm, &killed);
}

/// Other ranks resume from them.
#[test]
fn killed_rank_leaves_its_batches() {
    let options = with(
        &OPTIONS,
        &[
            "deep_inv.di.grad_updates_batch=200",
            "initial.num_batches=8",
        ],
    );
    let options: Vec<&str> = options
        .into_iter()
        .filter(|option| !option.ends_with("batch=40") && !option.ends_with("batch=4"))
        .collect();
    let (calm, killed) = (Place::new(), Place::new());
    for (place, stage) in [
        (&calm, "split_data"),
        (&calm, "train_teachers"),
        (&calm, "generate_initial"),
        (&killed, "split_data"),
        (&killed, "train_teachers"),
    ] {
        let (code, _, errors) = place.run_with(stage, &options, &[]);
        assert_eq!(code, 0, "{errors}");
    }
    let mut job = Job::start(
        &killed,
        &[(3, job::binary("generate_initial"), options.clone())],
    );
    job.wait_for(&killed, "initial.checkpoint/batch_00000.safetensors", 1);
    job.kill(2, &[0, 1]);
    let ended = job.end(&killed);
    each(&ended, &[0, 1], &["rank 2"]);
    assert!(!killed.path("initial.safetensors").exists());
    job::ok(
        &killed,
        2,
        "generate_initial",
        [&options[..], &["resume=true"]].concat(),
    );
    same(&calm, &killed);
}

#[test]
fn a_teacher_that_fails_is_an_error_of_all_ranks() {
    let options = with(
        &OPTIONS,
        &["teacher.optimizer.lr=1e30", "teacher.only=[0,1]"],
    );
    let place = Place::new();
    assert_eq!(place.run_with("split_data", &options, &[]).0, 0);
    let ended = Job::start(&place, &[(2, job::binary("train_teachers"), options)]).end(&place);
    each(&ended, &[0, 1], &["training teacher"]);
    assert_eq!(ended.code, 1);
    assert!(!place.path("teachers/model_teacher0.safetensors").exists());
    // Each rank told what to do, as if ranks did not share the work out by themselves.
    let one = |node| (1, job::binary("train_teachers"), with(&OPTIONS, &[node]));
    let ended = Job::start(&place, &[one("teacher.only=[0]"), one("teacher.only=[1]")]).end(&place);
    each(
        &ended,
        &[0, 1],
        &["another config", "teacher", "by themselves"],
    );
    assert_eq!(ended.code, 2);
}
