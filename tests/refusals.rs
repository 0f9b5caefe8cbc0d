//! Bad input through the real binaries: a clear message that names the thing, exit code 1 or 2, and what was good stays as it was.

mod common;

use common::Place;
use fed_distill::artifact::{hash, tensors};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// A tiny run up to and including a stage.
fn made(until: &str) -> Place {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial", "train_student"] {
        place.ok(stage, &[]);
        if stage == until {
            break;
        }
    }
    place
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}

/// Rewrites a weights file with one tensor changed.
fn damage(path: &Path, change: impl Fn(&str, &Tensor) -> Tensor) {
    let (state, metadata) = tensors::read_state(path).unwrap();
    let changed: Vec<(String, Tensor)> = state
        .iter()
        .map(|(name, tensor)| (name.to_owned(), change(name, tensor)))
        .collect();
    let list: Vec<(&str, &Tensor)> = changed.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    tensors::write(path, &list, &metadata).unwrap();
}

#[test]
fn impossible_splits() {
    let place = Place::new();
    says(
        &place.fails("split_data", &["split.num_nodes=1000"], 2),
        &["200 training images", "1000 nodes", "hint:"],
    );
    says(
        &place.fails("split_data", &["split.unif_percentage=1.5"], 2),
        &["split.unif_percentage", "1.5"],
    );
    says(
        &place.fails("split_data", &["split.save_path=null"], 2),
        &["split.save_path", "hint:"],
    );
    assert!(!place.path("split.json").exists());
}

#[test]
fn missing_files_name_the_stage_that_makes_them() {
    let place = Place::new();
    says(&place.fails("train_teachers", &[], 1), &["split.json", "split_data"]);
    says(
        &place.fails("generate_initial", &[], 1),
        &["model_teacher0.safetensors", "train_teachers"],
    );
    let place = made("train_teachers");
    says(
        &place.fails("train_student", &[], 1),
        &["initial.safetensors", "generate_initial"],
    );
}

#[test]
fn a_split_of_another_dataset() {
    let place = made("split_data");
    let text = place.fails("train_teachers", &["dataset.max_train=150"], 1);
    says(&text, &["split.json", "another dataset", "fingerprint"]);
    // Without a manifest, as the public Python project writes it, the indices tell.
    std::fs::remove_file(place.path("split.manifest.json")).unwrap();
    says(
        &place.fails("train_teachers", &["dataset.max_train=100"], 1),
        &["split.json", "index", "100 train images"],
    );
}

#[test]
fn splits_that_are_not_splits() {
    let place = Place::new();
    for (text, words) in [
        (
            r#"{"teacher0": {"train": [0, 1, 2], "test": []}, "teacher1": {"train": [2, 3], "test": []}}"#,
            &["twice", "teacher0", "teacher1"][..],
        ),
        (r#"{"teacher0": {"train": [0, 99999], "test": []}}"#, &["index 99999"]),
        (
            r#"{"teacher0": {"train": [0, 1], "test": []}, "teacher7": {"train": [2], "test": []}}"#,
            &["teacher1"],
        ),
        (
            r#"{"teacher0": {"train": [0, -1], "test": []}}"#,
            &["split.json:1:", "-1"],
        ),
        (r#"{"teacher0": {"train": [0, 1]"#, &["split.json:1:"]),
        ("{}", &["no nodes"]),
        (r#"{"teacher0": {"train": [], "test": []}}"#, &["no training images"]),
        (r#"{"teacher0": {"train": [5], "test": []}}"#, &["at least 2"]),
    ] {
        std::fs::write(place.path("split.json"), text).unwrap();
        let errors = place.fails("train_teachers", &[], 1);
        says(&errors, words);
        assert!(!place.path("teachers/model_teacher0.safetensors").exists());
    }
}

#[test]
fn damaged_teachers() {
    let place = made("train_teachers");
    let path = place.path("teachers/model_teacher1.safetensors");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() - 7]).unwrap();
    says(
        &place.fails("generate_initial", &[], 1),
        &["model_teacher1.safetensors"],
    );

    std::fs::write(&path, &good).unwrap();
    damage(&path, |name, tensor| {
        if name == "bn1.weight" {
            tensor * f64::NAN
        } else {
            tensor.shallow_clone()
        }
    });
    says(
        &place.fails("generate_initial", &[], 1),
        &["model_teacher1.safetensors"],
    );
    // Even where no manifest tells that the file has changed.
    std::fs::remove_file(place.path("teachers/manifest_teacher1.json")).unwrap();
    says(
        &place.fails("generate_initial", &[], 1),
        &["model_teacher1.safetensors", "bn1.weight", "finite"],
    );

    std::fs::write(&path, &good).unwrap();
    let (state, mut metadata) = tensors::read_state(&path).unwrap();
    let list: Vec<(&str, &Tensor)> = state.iter().collect();
    let card = metadata["fed_distill"].replace("\"label_counts\":[", "\"label_counts\":[1,");
    metadata.insert("fed_distill".into(), card);
    tensors::write(&path, &list, &metadata).unwrap();
    says(
        &place.fails("generate_initial", &[], 1),
        &["label counts do not match", "11 counts", "model_teacher1.safetensors"],
    );
    assert!(!place.path("initial.safetensors").exists());
}

#[test]
fn a_changed_teacher_is_refused_by_its_hash() {
    let place = made("generate_initial");
    damage(&place.path("teachers/model_teacher0.safetensors"), |_, tensor| {
        tensor.shallow_clone() + 0
    });
    place.ok(
        "train_teachers",
        &[
            "teacher.only=[0]",
            "seed=5",
            "overwrite=true",
            "split.save_path=null",
            "teacher.epochs=1",
        ],
    );
    let text = place.fails("train_student", &[], 1);
    says(
        &text,
        &[
            "another teacher 0",
            "initial.safetensors",
            "model_teacher0.safetensors",
            "sha256",
        ],
    );
}

#[test]
fn teachers_and_dataset_that_do_not_belong_together() {
    let place = made("generate_initial");
    says(
        &place.fails("train_student", &["dataset.max_test=40", "split.save_path=null"], 1),
        &["another dataset", "fingerprint"],
    );
    says(
        &place.fails("generate_initial", &["teacher.num_teachers=3", "overwrite=true"], 1),
        &["teacher 2 is missing"],
    );
    says(
        &place.fails("train_teachers", &["teacher.only=[7]"], 2),
        &["teacher.only", "teacher 7"],
    );
    says(
        &place.fails("train_teachers", &["teacher.num_teachers=5"], 2),
        &["teacher.num_teachers", "2 nodes"],
    );
}

#[test]
fn teachers_of_another_split_and_teachers_that_are_missing() {
    let place = made("train_teachers");
    place.ok("split_data", &["seed=9", "split.save_path=other.json"]);
    let text = place.fails("generate_initial", &["split.save_path=other.json"], 1);
    says(
        &text,
        &["another split", "other.json", "model_teacher0.safetensors", "sha256"],
    );
    std::fs::remove_file(place.path("teachers/model_teacher1.safetensors")).unwrap();
    for split in ["split.save_path=split.json", "split.save_path=null"] {
        says(&place.fails("generate_initial", &[split], 1), &["teacher 1 is missing"]);
    }
    // Two stages under one name would overwrite each other's manifest.
    let text = place.fails("generate_initial", &["initial.save_path=split.safetensors"], 2);
    says(&text, &["split.manifest.json", "split_data", "another name"]);
}

#[test]
fn an_inversion_that_diverges_leaves_nothing() {
    let place = made("train_teachers");
    let text = place.fails("generate_initial", &["deep_inv.optimizer.lr=1e30"], 1);
    says(
        &text,
        &["NaN or infinite", "making synthetic batch 0", "deep_inv.optimizer.lr"],
    );
    assert!(!place.path("initial.safetensors").exists());
    says(
        &place.fails("train_student", &["student.epochs=0"], 2),
        &["student.epochs"],
    );
}

#[test]
fn results_that_cannot_be_printed_are_an_error() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("there is no /dev/full here");
        return;
    };
    let place = Place::new();
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin("split_data"))
        .current_dir(place.path("."))
        .args(common::TINY)
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8(output.stderr).unwrap(), &["standard output"]);
}

#[test]
fn initial_batches_that_are_none() {
    let place = made("generate_initial");
    std::fs::remove_file(place.path("initial.manifest.json")).unwrap();
    let images = Tensor::zeros([4, 1, 8, 8], tch::kind::FLOAT_CPU);
    let path = place.path("initial.safetensors");
    for (labels, images, words) in [
        (Tensor::from_slice(&[0i64, 1, 2, 10]), &images, "out of range"),
        (Tensor::from_slice(&[0i64, 1]), &images, "do not fit"),
        (
            Tensor::from_slice(&[0i64, 1, 2, 3]),
            &Tensor::zeros([4, 3, 8, 8], tch::kind::FLOAT_CPU),
            "do not fit",
        ),
        (
            Tensor::from_slice(&[0i64, 1, 2, 3]),
            &(&images * f64::NAN),
            "not finite",
        ),
    ] {
        tensors::write(&path, &[("images", images), ("labels", &labels)], &BTreeMap::new()).unwrap();
        says(&place.fails("train_student", &[], 1), &["initial.safetensors", words]);
    }
    tensors::write(&path, &[("pictures", &images)], &BTreeMap::new()).unwrap();
    says(
        &place.fails("train_student", &[], 1),
        &["initial.safetensors", "`images`"],
    );
}

#[test]
fn finished_runs_are_kept_unless_told_otherwise() {
    let place = made("train_student");
    let student = place.path("student/student.safetensors");
    let before = hash::file(&student).unwrap();
    for stage in ["split_data", "train_teachers", "generate_initial", "train_student"] {
        says(&place.fails(stage, &[], 2), &["overwrite=true", "resume=true"]);
        place.ok(stage, &["resume=true"]);
    }
    assert_eq!(hash::file(&student).unwrap(), before);
    place.ok("train_student", &["overwrite=true", "student.seed=9"]);
    assert_ne!(hash::file(&student).unwrap(), before);
}

#[test]
fn a_diverging_training_names_the_step_and_leaves_no_weights() {
    let place = made("split_data");
    let text = place.fails(
        "train_teachers",
        &["teacher.optimizer.lr=1e30", "teacher.schedule.kind=constant"],
        1,
    );
    says(
        &text,
        &["NaN or infinite", "epoch", "step", "training teacher 0", "hint:"],
    );
    assert!(!place.path("teachers/model_teacher0.safetensors").exists());
}

#[test]
fn places_that_cannot_be_written() {
    let place = made("split_data");
    std::fs::write(place.path("file"), "x").unwrap();
    says(
        &place.fails("train_teachers", &["teacher.save_folder=file/inside"], 1),
        &["file/inside"],
    );
}

#[test]
fn a_full_disk_is_an_error_and_what_was_there_stays() {
    let place = made("split_data");
    let small = place.path("small");
    std::fs::create_dir(&small).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24k", "tmpfs"])
        .arg(&small)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        println!("only root can mount a small file system; a full disk cannot be shown");
        return;
    }
    std::fs::copy(place.path("split.json"), small.join("good.json")).unwrap();
    let good = hash::file(&small.join("good.json")).unwrap();
    let result = std::panic::catch_unwind(|| {
        let text = place.fails("train_teachers", &["teacher.save_folder=small", "model.width=16"], 1);
        says(&text, &["small", "space"]);
        assert_eq!(hash::file(&small.join("good.json")).unwrap(), good);
        assert!(!small.join("model_teacher0.safetensors").exists());
    });
    std::process::Command::new("umount").arg(&small).status().unwrap();
    result.unwrap();
}

#[test]
fn a_gpu_that_is_not_there() {
    let place = Place::new();
    if tch::Cuda::is_available() {
        println!("there is a GPU here; the refusal cannot be shown");
        return;
    }
    says(
        &place.fails("split_data", &["device=cuda:0"], 1),
        &["cuda:0", "device=cpu"],
    );
    says(
        &place.fails("split_data", &["device=gpu"], 2),
        &["auto", "cpu", "cuda:"],
    );
}

#[test]
fn what_a_stage_does_not_read_is_said_and_no_more() {
    let place = Place::new();
    let said = |overrides: &[&str]| {
        let typed = [&["split.save_path=split.json", "overwrite=true"], overrides].concat();
        let (code, _, errors) = place.run_with("split_data", &typed, &[]);
        assert_eq!(code, 0, "{errors}");
        let lines: Vec<&str> = errors.lines().filter(|line| line.contains("does not read")).collect();
        lines.join("\n")
    };
    assert_eq!(
        said(&["teacher.epochs=5"]),
        "split_data does not read `teacher.epochs=5`"
    );
    assert_eq!(
        said(&["model=lenet5", "student.seed=3"]),
        "split_data does not read `model=lenet5`, `student.seed=3`"
    );
    // One set of overrides for all stages.
    let many = [
        "teacher.epochs=5",
        "student.seed=3",
        "student.epochs=3",
        "initial.num_batches=2",
    ];
    assert_eq!(said(&many), "");
    // Read by way of a reference, or of a file that sets more than its own group.
    assert_eq!(said(&["student.seed=3", "seed=${student.seed}"]), "");
    assert_eq!(said(&["+scale=tiny", "threads=1"]), "");
}

#[test]
fn a_teacher_in_two_files() {
    let place = made("train_teachers");
    std::fs::write(place.path("teachers/model_teacher1.pt"), b"not even a file of PyTorch").unwrap();
    let (code, _, errors) = place.run_with("generate_initial", common::TINY, &[]);
    assert_eq!(code, 0, "{errors}");
    let twice =
        "warning: teacher 1 is there twice: taking teachers/model_teacher1.safetensors, not teachers/model_teacher1.pt";
    assert!(errors.contains(twice), "{errors}");
    assert!(!errors.contains("teacher 0 is there twice"), "{errors}");
}

#[test]
fn a_finished_run_says_what_differs() {
    let place = made("split_data");
    let text = place.fails("split_data", &[], 2);
    says(
        &text,
        &[
            "holds a finished run",
            "this very config",
            "resume=true",
            "overwrite=true",
        ],
    );
    let text = place.fails("split_data", &["split.num_nodes=3", "seed=7"], 2);
    says(
        &text,
        &[
            "holds a finished run",
            "differs: seed: 42 then, 7 now",
            "differs: split.num_nodes: 2 then, 3 now",
            "overwrite=true",
        ],
    );
}
