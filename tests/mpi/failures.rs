//! Ranks that fail: an error on every rank that is left, in time, and a run that goes on.

use crate::common::Place;
use crate::job::{self, Job};
use crate::{FED_AVG, each, same, with};
use serde_json::Value;

const LONG: [&str; 2] = ["fed_avg.rounds=400", "fed_avg.statistics=local"];
/// Long enough to be caught at it (`mpirun` takes a second to pass Ctrl-C on), short enough to be done twice.
const SHORTER: [&str; 2] = ["fed_avg.rounds=150", "fed_avg.statistics=local"];
const MODEL: &str = "fed/global.safetensors";

fn status(place: &Place) -> Value {
    serde_json::from_slice::<Value>(&std::fs::read(place.path("fed/manifest.json")).unwrap()).unwrap()["status"].clone()
}

/// Three ranks in the middle of a run.
fn at_work(options: &[&str]) -> (Place, Job) {
    let place = Place::new();
    assert_eq!(place.run_with("split_data", options, &[]).0, 0);
    let mut job = Job::start(&place, &[(3, job::binary("fed_avg"), options.to_vec())]);
    job.wait_for(&place.path("fed/metrics.jsonl"), 2500);
    (place, job)
}

#[test]
fn a_rank_that_hangs_is_found_out_in_time() {
    let (place, job) = at_work(&with(&FED_AVG, &[&LONG[..], &["ranks.timeout=3"]].concat()));
    job.signal(1, libc::SIGSTOP);
    let ended = job.end(&place, 12.0);
    each(&ended, &[0, 2], &["rank 1 has given no sign of life for 3 s"]);
    assert!(!place.path(MODEL).exists());
    assert_eq!(status(&place), "failed");
}

#[test]
fn a_killed_rank_ends_all_and_the_run_goes_on_with_fewer() {
    let options = with(&FED_AVG, &SHORTER);
    let (place, job) = at_work(&options);
    job.signal(2, libc::SIGKILL);
    let ended = job.end(&place, 12.0);
    each(&ended, &[0, 1], &["rank 2"]);
    assert!(!place.path(MODEL).exists());
    assert_eq!(status(&place), "interrupted");
    goes_on(&place, &options);
}

#[test]
fn ctrl_c_reaches_every_rank_and_the_run_goes_on_with_fewer() {
    let options = with(&FED_AVG, &SHORTER);
    let (place, job) = at_work(&options);
    job.interrupt();
    let ended = job.end(&place, 12.0);
    each(&ended, &[0, 1, 2], &["interrupted"]);
    assert!(ended.errors.contains("resume=true"), "{}", ended.errors);
    assert_eq!(status(&place), "interrupted");
    goes_on(&place, &options);
}

/// On two ranks where there were three, to the result of one process.
fn goes_on(place: &Place, options: &[&str]) {
    let ended = job::ok(place, 2, "fed_avg", [options, &["resume=true"]].concat());
    assert!(ended.errors.contains("going on from epoch"), "{}", ended.errors);
    let calm = Place::new();
    for stage in ["split_data", "fed_avg"] {
        assert_eq!(calm.run_with(stage, options, &[]).0, 0);
    }
    same(&calm, place, &[MODEL, "fed/metrics.jsonl", "fed/metrics.json"]);
}

#[test]
fn nonsense_is_an_error_for_all() {
    let place = Place::new();
    let options = with(&FED_AVG, &LONG);
    assert_eq!(place.run_with("split_data", &options, &[]).0, 0);
    let stranger = job::binary("fed_avg").with_file_name("examples").join("mpi_rank");
    let programs = [(2, job::binary("fed_avg"), options), (1, stranger, vec!["nonsense"])];
    let ended = Job::start(&place, &programs).end(&place, 30.0);
    each(&ended, &[0, 1], &["rank 2 sent 12 bytes that are no message"]);
    assert!(!place.path(MODEL).exists());
}

#[test]
fn refusals_reach_every_rank() {
    let place = Place::new();
    let options = with(&FED_AVG, &[]);
    // No split yet.
    let ended = Job::start(&place, &[(2, job::binary("fed_avg"), options.clone())]).end(&place, 30.0);
    each(&ended, &[0, 1], &["split_data"]);
    assert_eq!(ended.code, 1);
    let ended = Job::start(&place, &[(2, job::binary("split_data"), options.clone())]).end(&place, 30.0);
    each(&ended, &[0], &["works alone"]);
    assert_eq!(ended.code, 2);
    assert_eq!(place.run_with("split_data", &options, &[]).0, 0);
    let other = [&options[..], &["seed=7"]].concat();
    let programs = [
        (1, job::binary("fed_avg"), options.clone()),
        (1, job::binary("fed_avg"), other),
    ];
    let ended = Job::start(&place, &programs).end(&place, 30.0);
    each(&ended, &[0, 1], &["another config", "seed"]);
    assert!(!place.path("fed/manifest.json").exists());
    job::ok(&place, 2, "fed_avg", options.clone());
    let ended = Job::start(&place, &[(2, job::binary("fed_avg"), options)]).end(&place, 30.0);
    each(&ended, &[0, 1], &["holds a finished run", "overwrite=true"]);
    assert_eq!(ended.code, 2);
}
