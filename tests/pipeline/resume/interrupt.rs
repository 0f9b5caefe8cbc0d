//! Ctrl-C: the step in hand is finished, the run is saved, and the same command resumes.

use super::{forget, results, says, start, wait_for};
use crate::common::Place;
use crate::common::stop::{caught, stop};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Interrupts a stage once `path` is there.
fn interrupted(place: &Place, stage: &str, options: &[&str], path: &str, signal: i32) {
    let errors = caught(|| {
        forget(place, stage);
        let mut child = start(place, stage, options);
        let stopped = stop(&mut child, signal, || place.path(path).exists());
        let errors = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        stopped.then_some(errors)
    });
    says(&errors, &["interrupted", "resume=true"]);
}

#[test]
fn ctrl_c_saves_and_resume_ends_the_same() {
    // Long enough to be caught at it; nothing is saved before the interruption.
    let options = [
        "teacher.epochs=400",
        "initial.num_batches=3",
        "deep_inv.di.grad_updates_batch=300",
        "deep_inv.adi.grad_updates_batch=300",
        "student.new_batches_per_epoch=1",
        "student.epochs=3",
    ];
    let (calm, stopped) = (Place::new(), Place::new());
    for place in [&calm, &stopped] {
        place.ok("split_data", &options);
    }
    for (stage, signal, at, manifest, saved) in [
        (
            "train_teachers",
            libc::SIGINT,
            "teachers/metrics_teacher0.jsonl",
            "teachers/manifest_teacher0.json",
            "teachers/checkpoint_teacher0/training.safetensors",
        ),
        (
            "generate_initial",
            libc::SIGUSR1,
            "initial.checkpoint/batch_00000.safetensors",
            "initial.manifest.json",
            "initial.checkpoint/batch_00000.safetensors",
        ),
        (
            "train_student",
            libc::SIGUSR2,
            "student/checkpoint/batch_00003.safetensors",
            "student/manifest.json",
            "student/checkpoint/training.safetensors",
        ),
    ] {
        calm.ok(stage, &options);
        interrupted(&stopped, stage, &options, at, signal);
        assert_eq!(json(&stopped.path(manifest))["status"], "interrupted");
        assert!(stopped.path(saved).exists(), "{saved}");
        // A forgotten word does not throw away what was saved.
        let errors = stopped.fails(stage, &options, 2);
        says(&errors, &["resume=true", "overwrite=true"]);
        let all: Vec<&str> = options.iter().copied().chain(["resume=true"]).collect();
        stopped.ok(stage, &all);
        let made = json(&stopped.path(manifest));
        assert_eq!(
            (&made["status"], made["resumed"].as_array().unwrap().len()),
            (&Value::from("done"), 1)
        );
        assert!(!stopped.path(saved).exists(), "{saved}");
    }
    assert_eq!(results(&calm.path(".")), results(&stopped.path(".")));
}

/// `overwrite=true` excludes `resume=true`, and repeated it would throw away what was saved.
#[test]
fn what_resumes_an_overwriting_run_is_told() {
    let place = Place::new();
    place.ok("split_data", &[]);
    let options = ["teacher.epochs=400", "overwrite=true"];
    let errors = caught(|| {
        let mut child = start(&place, "train_teachers", &options);
        let lines = place.path("teachers/metrics_teacher0.jsonl");
        let stopped = stop(&mut child, libc::SIGINT, || lines.exists());
        let errors = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        stopped.then_some(errors)
    });
    let told = errors.lines().find(|line| line.starts_with("hint: "));
    let told = told.unwrap_or_else(|| panic!("{errors}"));
    assert!(
        told.contains("to resume from here: ") && told.ends_with(" resume=true"),
        "{told}"
    );
    assert!(!told.contains("overwrite"), "{told}");
}

/// A process that writes no events leaves those of an earlier one to a later one.
#[test]
fn events_outlive_a_process_without_any() {
    let place = Place::new();
    place.ok("split_data", &[]);
    let epochs = "teacher.epochs=4000";
    let lines = "teachers/metrics_teacher0.jsonl";
    let events = || -> Vec<u64> {
        let folder = place.path("teachers/tensorboard_teacher0");
        let files = std::fs::read_dir(folder).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect()
    };
    let length = || std::fs::metadata(place.path(lines)).map_or(0, |file| file.len());
    let run = |more: &[&str]| {
        let before = length();
        let mut child = start(&place, "train_teachers", &[&[epochs], more].concat());
        stop(&mut child, libc::SIGINT, || length() > before)
    };
    caught(|| {
        forget(&place, "train_teachers");
        let all = run(&[]) && run(&["resume=true", "tensorboard=false"]) && run(&["resume=true"]);
        all.then_some(())
    });
    assert_eq!(events().len(), 2);
}

#[test]
fn a_second_ctrl_c_exits_at_once() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("train_teachers", &[]);
    // A gradient step of a large batch takes long enough for two signals.
    let options = ["deep_inv.batch_size=60000", "initial.num_batches=1"];
    let mut child = start(&place, "generate_initial", &options);
    wait_for(&place.path("initial.metrics.jsonl"), &mut child);
    interrupt(&child);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Ctrl-C again stops at once")));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(!place.path("initial.safetensors").exists());
}
