//! Numbers of a config that no machine can serve: usage errors that name the key, before anything
//! is allocated or written.

use super::{made, says};
use crate::common::TINY;

/// Runs a stage and expects a usage error.
fn refused(place: &crate::common::Place, stage: &str, more: &[&str], words: &[&str]) {
    let (code, _, text) = place.run_with(stage, TINY, more);
    assert_eq!(code, 2, "{stage} {more:?}\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    says(&text, words);
}

#[test]
fn a_crop_is_bounded_by_the_images() {
    let place = made("generate_initial");
    let folder = |group: &str| format!("{group}.save_folder=other");
    for (stage, group) in [
        ("train_teachers", "teacher"),
        ("train_student", "student"),
        ("fed_avg", "fed_avg"),
        ("fed_md", "fed_md"),
        ("distributed_sgd", "distributed_sgd"),
    ] {
        for crop in ["8", "50", "100000", "9223372036854775807"] {
            let key = format!("{group}.augment.crop");
            let typed = format!("{key}={crop}");
            let mut more = vec![typed.as_str()];
            let folder = folder(group);
            if stage != "train_student" {
                more.push(&folder);
            }
            refused(&place, stage, &more, &[&key, "8 pixels a side", "0 to 7"]);
        }
    }
    assert!(!place.path("other").exists() && !place.path("student").exists());
}

/// These ended in a panic on an overflow, or in an abort when the allocation failed.
#[test]
fn products_beyond_any_memory_name_their_keys() {
    let place = made("generate_initial");
    for (stage, settings, keys) in [
        (
            "train_student",
            &[
                "student.epochs=1000000000",
                "student.new_batches_per_epoch=2",
            ][..],
            &["`student.epochs`", "`deep_inv.batch_size`", "TiB"][..],
        ),
        (
            "train_student",
            &["student.new_batches_per_epoch=1000000000"],
            &["`student.new_batches_per_epoch`", "TiB"],
        ),
        (
            "train_student",
            &[
                "student.epochs=1000000000",
                "student.new_batches_per_epoch=1000000000",
                "deep_inv.batch_size=1000000000",
            ],
            &["`student.epochs`", "PiB"],
        ),
        (
            "train_student",
            &["student.batch_size=1000000000"],
            &["`student.batch_size`"],
        ),
        (
            "generate_initial",
            &[
                "deep_inv.batch_size=1000000000",
                "initial.save_path=other.safetensors",
            ],
            &["`deep_inv.batch_size`"],
        ),
        (
            "generate_initial",
            &[
                "initial.num_batches=1000000000",
                "initial.save_path=other.safetensors",
            ],
            &["`initial.num_batches`", "TiB"],
        ),
    ] {
        refused(
            &place,
            stage,
            settings,
            &[keys, &["memory", "available:", "set by"]].concat(),
        );
    }
    assert!(!place.path("student").exists() && !place.path("other.manifest.json").exists());
}

#[test]
fn numbers_without_meaning_are_usage_errors() {
    let place = crate::common::Place::new();
    for (typed, words) in [
        (
            "student.epoch_images=0",
            "`student.epoch_images` must be between 1",
        ),
        ("student.model=[]", "`student.model` must be a mapping"),
        (
            "fed_md.digest_epochs=10000000000000",
            "`fed_md.digest_epochs` must be",
        ),
    ] {
        refused(&place, "split_data", &[typed], &[words]);
    }
}
