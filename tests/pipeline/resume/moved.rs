//! Runs that resume elsewhere: in another folder, with another number of threads, and with files
//! that changed places.

use super::{forget, results, says, start};
use crate::common::stop::{caught, stop};
use crate::common::{Place, TINY};
use serde_json::{Value, json};

/// Enough batches to be caught between two of them.
const MANY: [&str; 2] = [
    "initial.num_batches=12",
    "deep_inv.di.grad_updates_batch=30",
];

/// The paths of a run in one folder.
fn inside(folder: &str) -> [String; 4] {
    [
        format!("split.save_path={folder}/split.json"),
        format!("teacher.save_folder={folder}/teachers"),
        format!("initial.save_path={folder}/initial.safetensors"),
        format!("student.save_folder={folder}/student"),
    ]
}

/// Runs everything up to the initial batches, which are stopped after the second.
fn stopped(place: &Place, folder: &str) {
    let paths = inside(folder);
    let options: Vec<&str> = paths.iter().map(String::as_str).chain(MANY).collect();
    std::fs::create_dir(place.path(folder)).unwrap();
    for stage in ["split_data", "train_teachers"] {
        place.ok(stage, &options);
    }
    let second = format!("{folder}/initial.checkpoint/batch_00001.safetensors");
    caught(|| {
        forget(place, "generate_initial");
        let options = [&options[..], &["overwrite=true"]].concat();
        let mut child = start(place, "generate_initial", &options);
        let left = || place.path(&second).exists();
        stop(&mut child, libc::SIGKILL, left).then_some(())
    });
}

/// A folder of runs, some finished and one not, that was moved: with the new paths every stage
/// keeps or resumes what is there. Other inputs at other paths are other inputs.
#[test]
fn a_moved_folder_resumes() {
    let (whole, moved) = (Place::new(), Place::new());
    std::fs::create_dir(whole.path("new")).unwrap();
    let paths = inside("new");
    let options: Vec<&str> = paths.iter().map(String::as_str).chain(MANY).collect();
    for stage in super::STAGES {
        whole.ok(stage, &options);
    }
    stopped(&moved, "old");
    std::fs::rename(moved.path("old"), moved.path("new")).unwrap();
    let again = [&options[..], &["resume=true"]].concat();
    for (stage, says) in [
        ("split_data", "already"),
        ("train_teachers", "already"),
        ("generate_initial", ""),
        ("train_student", ""),
        ("generate_initial", "already"),
        ("train_student", "already"),
    ] {
        let (code, _, errors) = moved.run_with(stage, TINY, &again);
        assert!(code == 0 && errors.contains(says), "{stage}: {errors}");
    }
    assert_eq!(results(&whole.path("new")), results(&moved.path("new")));

    std::fs::rename(moved.path("new"), moved.path("newer")).unwrap();
    let paths = inside("newer");
    let other = [&MANY[..], &["seed=9", "split.save_path=other.json"]].concat();
    moved.ok("split_data", &other);
    let mut options: Vec<&str> = paths.iter().map(String::as_str).chain(MANY).collect();
    options.push("resume=true");
    let (code, _, errors) = moved.run_with("train_student", TINY, &options);
    assert!(code == 0 && errors.contains("already"), "{errors}");
    options.push("split.save_path=other.json");
    says(
        &moved.fails("train_teachers", &options, 2),
        &["read something else", "split: sha256", "overwrite=true"],
    );
}

#[test]
fn batches_are_bound_to_their_numbers() {
    let place = Place::new();
    stopped(&place, "old");
    let batch = |index| {
        place.path(&format!(
            "old/initial.checkpoint/batch_0000{index}.safetensors"
        ))
    };
    for (from, to) in [(0, 9), (1, 0), (9, 1)] {
        std::fs::rename(batch(from), batch(to)).unwrap();
    }
    let paths = inside("old");
    let options: Vec<&str> = paths.iter().map(String::as_str).chain(MANY).collect();
    let errors = place.fails(
        "generate_initial",
        &[&options[..], &["resume=true"]].concat(),
        1,
    );
    says(
        &errors,
        &[
            "expected: batch_00000",
            "found: batch_00001",
            "batch_00000.safetensors",
            "overwrite=true",
        ],
    );
}

/// Sums of other threads round otherwise, which the manifest must tell.
#[test]
fn another_number_of_threads_is_recorded() {
    let place = Place::new();
    stopped(&place, "old");
    let paths = inside("old");
    let options: Vec<&str> = paths.iter().map(String::as_str).chain(MANY).collect();
    let manifest = || -> Value {
        let text = std::fs::read(place.path("old/initial.manifest.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let again = [&options[..], &["resume=true", "threads=2"]].concat();
    let (code, _, errors) = place.run_with("generate_initial", TINY, &again);
    assert_eq!(code, 0, "{errors}");
    says(&errors, &["began with 1 and resumes with 2 threads"]);
    let manifest = manifest();
    assert_eq!(
        [&manifest["threads"], &manifest["earlier_threads"]],
        [&json!(2), &json!([1])]
    );
}
