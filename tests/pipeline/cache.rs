//! `student.distill.cache_mib`: the student's bytes do not depend on it, interrupted or not.

use crate::common::stop::{caught, stop};
use crate::common::{Place, TINY};
use fed_distill::artifact::hash;
use std::process::{Command, Stdio};

/// Batches of 64, so that logits are kept, and more epochs than an image has views.
const SETTINGS: &[&str] = &[
    "deep_inv.batch_size=64",
    "initial.num_batches=2",
    "student.objective=distill",
    "student.distill.temperature=2",
    "student.epochs=12",
    "student.batch_size=64",
    "student.new_batches_per_epoch=1",
    "student.augment={crop: 1, flip: false}",
];

#[test]
fn bytes_do_not_depend_on_the_cache() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, SETTINGS);
    }
    let result = || hash::file(&place.path("student/student.safetensors")).unwrap();
    for rule in ["label_share", "made_from"] {
        let rule = format!("student.distill.ensemble={rule}");
        let train = |more: &[&str]| {
            place.ok(
                "train_student",
                &[SETTINGS, &[&rule, "overwrite=true"], more].concat(),
            );
            result()
        };
        let without = train(&["student.distill.cache_mib=0"]);
        assert_eq!(train(&[]), without, "{rule}");
        assert_eq!(train(&["student.distill.cache_mib=1"]), without, "{rule}");
        // What was kept is gone when the run resumes.
        caught(|| {
            let _ = std::fs::remove_dir_all(place.path("student"));
            let mut child = Command::new(assert_cmd::cargo::cargo_bin("train_student"))
                .current_dir(place.path(""))
                .args([TINY, SETTINGS, &[&rule, "checkpoint.every=0"]].concat())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let log = place.path("student/metrics.jsonl");
            let epochs = || {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                text.matches("\"epoch\",").count()
            };
            stop(&mut child, libc::SIGKILL, || epochs() >= 6).then_some(())
        });
        place.ok(
            "train_student",
            &[SETTINGS, &[&rule, "resume=true"]].concat(),
        );
        assert_eq!(result(), without, "{rule}, interrupted");
    }
}

#[test]
fn a_cache_larger_than_memory_is_refused() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &[]);
    }
    let more = [
        "student.objective=distill",
        "student.distill.cache_mib=999_999_999",
    ];
    let errors = place.fails("train_student", &more, 2);
    let wanted = "`student.distill.cache_mib` asks for 999999999 mebibytes";
    assert!(errors.contains(wanted), "{errors}");
}
