//! Memory that runs out in the middle of a run: an error that says what to lower, and a manifest
//! that says that the run failed. A panic of a rank that is a thread is an error as well.

use super::{made, says};
use crate::common::{Place, TINY};
use std::process::Command;

/// KiB of address space: enough to start and to make a network of 75 million parameters, and too
/// little for its gradients.
const LIMIT: &str = "1300000";

fn starved(place: &Place, stage: &str, more: &[&str]) -> String {
    let output = Command::new("sh")
        .args(["-c", "ulimit -v $0 && exec \"$@\"", LIMIT])
        .arg(assert_cmd::cargo::cargo_bin(stage))
        .current_dir(place.path("."))
        .args(TINY)
        .args(["model.width=2048", "threads=1"])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Drawing its weights would end the process without a word.
#[test]
fn a_model_larger_than_memory_is_refused() {
    let place = made("split_data");
    let text = place.fails("train_teachers", &["model.width=65536"], 2);
    says(
        &text,
        &["parameters", "of memory", "model.width=65536", "available"],
    );
    assert!(!place.path("teachers").exists());
}

#[test]
fn a_run_without_memory_says_what_to_lower() {
    let place = made("split_data");
    let words = ["memory", "hint: lower", "teacher.batch_size", "model.width"];
    let text = starved(&place, "train_teachers", &["teacher.batch_size=2"]);
    says(&text, &words);
    let manifest = std::fs::read_to_string(place.path("teachers/manifest_teacher0.json")).unwrap();
    assert!(manifest.contains("\"failed\""), "{manifest}");
    let text = starved(
        &place,
        "fed_avg",
        &[
            "fed_avg.ranks=2",
            "fed_avg.batch_size=2",
            "fed_avg.save_folder=fed_avg",
        ],
    );
    says(&text, &words);
}
