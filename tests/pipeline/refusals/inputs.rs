//! Splits, datasets and initial batches that are none, or belong to something else.

use super::{made, says};
use crate::common::{Place, TINY};
use fed_distill::artifact::tensors;
use std::collections::BTreeMap;
use tch::Tensor;

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
    // An earlier split, and the record of how it was made, stay.
    place.ok("split_data", &[]);
    let made = || {
        let read = |name: &str| std::fs::read(place.path(name)).unwrap();
        (read("split.json"), read("split.manifest.json"))
    };
    let before = made();
    let too_many = ["split.num_nodes=1000", "overwrite=true"];
    place.fails("split_data", &too_many, 2);
    assert!(before == made());
    place.ok("train_teachers", &["teacher.only=[0]"]);
}

/// The library knows the fields of its settings; a binary's user knows config keys.
#[test]
fn errors_of_the_dataset_name_config_keys() {
    let place = Place::new();
    says(
        &place.fails("split_data", &["dataset.max_train=5"], 2),
        &[
            "`dataset.max_train` must be at least the number of classes, 10",
            "hint: `dataset.max_train=10`",
        ],
    );
    says(
        &place.fails("split_data", &["dataset.kind=image_folder"], 2),
        &[
            "`dataset.root` is not set",
            "hint: `dataset.root=PATH`: the",
        ],
    );
}

/// A server need not have the split, but whoever types one may have erred.
#[test]
fn a_typed_split_that_is_not_there() {
    let place = made("train_teachers");
    let typo = ["split.save_path=typo.json"];
    let (code, _, errors) = place.run_with("generate_initial", TINY, &typo);
    assert_eq!(code, 0, "{errors}");
    says(&errors, &["`typo.json` does not exist"]);
}

#[test]
fn missing_files_name_the_stage_that_makes_them() {
    let place = Place::new();
    says(
        &place.fails("train_teachers", &[], 1),
        &["split.json", "split_data"],
    );
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
    // The settings that make the same images others, with what to type.
    says(
        &text,
        &[
            "dataset.max_train: 200 then, 150 now",
            "`dataset.max_train=200`",
        ],
    );
    for stage in ["train_teachers", "fed_avg"] {
        let folder = "fed_avg.save_folder=average";
        let text = place.fails(stage, &["dataset.size=16", folder], 1);
        says(&text, &["dataset.size: 8 then, 16 now", "`dataset.size=8`"]);
    }
    let inspect = [
        "split",
        "split.json",
        "dataset=digits",
        "dataset.max_train=200",
    ];
    let (_, _, text) = place.run_with("inspect", &inspect, &["dataset.max_test=50"]);
    says(
        &text,
        &["dataset.size: 8 then, null now", "`dataset.size=8`"],
    );
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
        (
            r#"{"teacher0": {"train": [0, 99999], "test": []}}"#,
            &["index 99999"],
        ),
        (
            r#"{"teacher0": {"train": [0, 1], "test": []}, "teacher7": {"train": [2], "test": []}}"#,
            &["teacher1"],
        ),
        (
            r#"{"teacher0": {"train": [0, -1], "test": []}}"#,
            &["split.json:1:", "-1"],
        ),
        (
            r#"{"teacher0": {"train": [0, 1]"#,
            &["split.json:1:", "hint:", "`split_data`"],
        ),
        // Other JSON.
        (
            r#"{"epoch": 2, "test_accuracy": 0.5}"#,
            &[
                "expected: a node's indices",
                "hint: a split is",
                "`split_data` makes one",
            ],
        ),
        ("[1, 2]", &["hint: a split is", "`split_data` makes one"]),
        ("{}", &["no nodes", "hint: a split is"]),
        (
            r#"{"teacher0": {"train": [], "test": []}}"#,
            &["no training images"],
        ),
        (
            r#"{"teacher0": {"train": [5], "test": []}, "teacher1": {"train": [6], "test": []}}"#,
            &["at least 2"],
        ),
    ] {
        std::fs::write(place.path("split.json"), text).unwrap();
        let errors = place.fails("train_teachers", &[], 1);
        says(&errors, words);
        assert!(!place.path("teachers/model_teacher0.safetensors").exists());
    }
}

#[test]
fn a_misspelt_root_leaves_no_folders() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).unwrap();
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin("split_data"))
        .current_dir(place.path("."))
        // Nobody listens there: no download, whatever network there is.
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .args([
            "dataset=mnist",
            "dataset.root=data/mnits/raw",
            "split.save_path=split.json",
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    says(
        &errors,
        &["cannot download", "data/mnits/raw", "dataset.root"],
    );
    let left: Vec<_> = std::fs::read_dir(place.path("data")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn initial_batches_that_are_none() {
    let place = made("generate_initial");
    for (file, stage) in [
        ("split.json", "`split_data` wrote it"),
        (
            "teachers/model_teacher0.safetensors",
            "`train_teachers` wrote it",
        ),
    ] {
        let text = place.fails("train_student", &[&format!("initial.save_path={file}")], 2);
        says(
            &text,
            &["no initial batches", file, stage, "generate_initial"],
        );
    }
    std::fs::remove_file(place.path("initial.manifest.json")).unwrap();
    let images = Tensor::zeros([4, 1, 8, 8], tch::kind::FLOAT_CPU);
    let path = place.path("initial.safetensors");
    for (labels, images, words) in [
        (
            Tensor::from_slice(&[0i64, 1, 2, 10]),
            &images,
            "out of range",
        ),
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
        tensors::write(
            &path,
            &[("images", images), ("labels", &labels)],
            &BTreeMap::new(),
        )
        .unwrap();
        says(
            &place.fails("train_student", &[], 1),
            &["initial.safetensors", words],
        );
    }
    tensors::write(&path, &[("pictures", &images)], &BTreeMap::new()).unwrap();
    says(
        &place.fails("train_student", &[], 1),
        &["initial.safetensors", "`images`"],
    );
}

/// They may never end; a run that reads one would wait for ever or fill the memory.
#[test]
fn pipes_and_devices_are_no_inputs() {
    let place = made("train_teachers");
    place.ok("generate_initial", &[]);
    let replaced = |name: &str, run: &dyn Fn(&str)| {
        let path = place.path(name);
        let kept = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let pipe = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the name ends in a zero byte and lives as long as the call.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        run("is a pipe, not a file");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        run("is a device, not a file");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, kept).unwrap();
    };
    for (name, stages) in [
        (
            "split.json",
            &["train_teachers", "generate_initial", "train_student"][..],
        ),
        ("split.manifest.json", &["split_data"]),
        (
            "teachers/model_teacher1.safetensors",
            &["generate_initial", "train_student"],
        ),
        ("initial.safetensors", &["train_student"]),
    ] {
        replaced(name, &|kind| {
            for stage in stages {
                // A finished run is kept without reading what it was made of.
                let again = match *stage {
                    "split_data" => "resume=true",
                    _ => "overwrite=true",
                };
                let (code, _, errors) = place.run_with(stage, TINY, &[again]);
                assert_ne!(code, 0, "{stage} {name}");
                says(&errors, &[name, kind]);
            }
        });
    }
    // A config file: an option, and the primary file of a folder.
    let zero = |name: &str| {
        let path = place.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    };
    zero("own/student/mine.yaml");
    let text = place.fails("train_student", &["--config-dir=own", "+student=mine"], 2);
    says(
        &text,
        &["a config file is a device", "own/student/mine.yaml"],
    );
    zero("whole/config.yaml");
    let text = place.fails("train_student", &["--config-dir=whole"], 2);
    says(&text, &["a config file is a device", "whole/config.yaml"]);
}
