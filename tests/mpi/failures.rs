//! Ranks that fail: an error on every rank that is left, in time, and a run that resumes.

use crate::common::{Place, child};
use crate::job::{self, Job};
use crate::{FED_AVG, FED_MD, Federated, each, rank, same, split};
use serde_json::Value;

fn status(place: &Place) -> Value {
    serde_json::from_slice::<Value>(&std::fs::read(place.path("fed/manifest.json")).unwrap())
        .unwrap()["status"]
        .clone()
}

/// Three ranks in the middle of a run: `file` has so many bytes.
fn at_work(federated: &Federated, options: &[&str], file: &str, bytes: u64) -> (Place, Job) {
    let place = Place::new();
    split(&place, options);
    let mut job = Job::start(
        &place,
        &[(3, job::binary(federated.stage), options.to_vec())],
    );
    job.wait_for(&place, file, bytes);
    (place, job)
}

const METRICS: &str = "fed/metrics.jsonl";

#[test]
fn a_rank_that_hangs_is_found_out_in_time() {
    for (federated, rounds) in [
        (FED_AVG, "fed_avg.rounds=400"),
        (FED_MD, "fed_md.rounds=400"),
    ] {
        let options = federated.with(&[federated.long, &[rounds, "ranks.timeout=3"]].concat());
        let (place, job) = at_work(&federated, &options, METRICS, 2500);
        job.signal(1, libc::SIGSTOP);
        let ended = job.end(&place);
        each(
            &ended,
            &[0, 2],
            &["rank 1 has given no sign of life for 3 s"],
        );
        assert!(!place.path(federated.files[0]).exists());
        assert_eq!(status(&place), "failed");
        // The ranks that are left did nothing wrong: their work is kept.
        assert!(place.path("fed/checkpoint/training.safetensors").exists());
        assert!(
            ended.errors.contains("`resume=true` resumes from here"),
            "{}",
            ended.errors
        );
    }
}

/// The run can be resumed with fewer.
#[test]
fn killed_rank_ends_all() {
    for federated in [FED_AVG, FED_MD] {
        let options = federated.with(federated.long);
        let place = killed(&federated, &options, METRICS, 2500);
        resumes(&federated, &place, &options);
    }
}

/// Rank 0 has saved its first client, which is quick, and all ranks are at clients that take long.
#[test]
fn lost_rank_in_transfer_learning() {
    let net = "{kind: resnet18, width: 4, blocks: [1]}";
    let models = format!("fed_md.models=[linear, {net}, {net}, {net}]");
    let options = FED_MD.with(&["fed_md.private_epochs=150", "checkpoint.every=0", &models]);
    let place = killed(&FED_MD, &options, "fed/checkpoint/training.safetensors", 1);
    assert_eq!(std::fs::metadata(place.path(METRICS)).unwrap().len(), 0);
    resumes(&FED_MD, &place, &options);
}

/// Loses rank 2 at work.
fn killed(federated: &Federated, options: &[&str], file: &str, bytes: u64) -> Place {
    let (place, job) = at_work(federated, options, file, bytes);
    job.signal(2, libc::SIGKILL);
    let ended = job.end(&place);
    each(&ended, &[0, 1], &["rank 2"]);
    assert!(!place.path(federated.files[0]).exists());
    assert_eq!(status(&place), "interrupted");
    place
}

/// The run can be resumed with fewer.
#[test]
fn ctrl_c_reaches_every_rank() {
    for federated in [FED_AVG, FED_MD] {
        let options = federated.with(federated.long);
        let (place, job) = at_work(&federated, &options, METRICS, 2500);
        job.interrupt(1);
        let ended = job.end(&place);
        each(&ended, &[0, 1, 2], &["interrupted"]);
        assert!(ended.errors.contains("resume=true"), "{}", ended.errors);
        assert_eq!(status(&place), "interrupted");
        resumes(&federated, &place, &options);
    }
}

/// On two ranks where there were three, to the result of one process.
fn resumes(federated: &Federated, place: &Place, options: &[&str]) {
    let ended = job::ok(
        place,
        2,
        federated.stage,
        [options, &["resume=true"]].concat(),
    );
    assert!(ended.errors.contains("resuming from"), "{}", ended.errors);
    let calm = Place::new();
    federated.alone(&calm, options, &[]);
    same(&calm, place, federated.files);
}

#[test]
fn nonsense_is_an_error_for_all() {
    if child::is_child() {
        return rank::nonsense();
    }
    let place = Place::new();
    let options = FED_AVG.with(FED_AVG.long);
    split(&place, &options);
    let stranger = child::arguments(nonsense_is_an_error_for_all);
    let programs = [
        (2, job::binary("fed_avg"), options),
        (1, std::env::current_exe().unwrap(), stranger),
    ];
    let ended = Job::start(&place, &programs).end(&place);
    each(
        &ended,
        &[0, 1],
        &["rank 2 sent 12 bytes that are no message"],
    );
    assert!(!place.path(FED_AVG.files[0]).exists());
}

#[test]
fn refusals_reach_every_rank() {
    let place = Place::new();
    let options = FED_AVG.with(&[]);
    // No split yet.
    let ended = Job::start(&place, &[(2, job::binary("fed_avg"), options.clone())]).end(&place);
    each(&ended, &[0, 1], &["split_data"]);
    assert_eq!(ended.code, 1);
    let ended = Job::start(&place, &[(2, job::binary("split_data"), options.clone())]).end(&place);
    each(&ended, &[0], &["works alone"]);
    assert_eq!(ended.code, 2);
    split(&place, &options);
    let other = [&options[..], &["seed=7"]].concat();
    let programs = [
        (1, job::binary("fed_avg"), options.clone()),
        (1, job::binary("fed_avg"), other),
    ];
    let ended = Job::start(&place, &programs).end(&place);
    each(&ended, &[0, 1], &["another config", "seed"]);
    assert!(!place.path("fed/manifest.json").exists());
    // The same path leads to another split on rank 1.
    let elsewhere = [
        &options[..],
        &["split.save_path=other/split.json", "seed=7"],
    ]
    .concat();
    split(&place, &elsewhere);
    let binary = job::binary("fed_avg");
    let moved = [&["-C", "other", binary.to_str().unwrap()], &options[..]].concat();
    let programs = [
        (1, binary.clone(), options.clone()),
        (1, "/usr/bin/env".into(), moved),
    ];
    let ended = Job::start(&place, &programs).end(&place);
    let words = ["rank 1 read something else", "split: sha256", "on rank 0"];
    each(&ended, &[0, 1], &words);
    assert!(!place.path("fed/manifest.json").exists());
    job::ok(&place, 2, "fed_avg", options.clone());
    let ended = Job::start(&place, &[(2, job::binary("fed_avg"), options)]).end(&place);
    each(&ended, &[0, 1], &["holds a finished run", "overwrite=true"]);
    assert_eq!(ended.code, 2);
}
