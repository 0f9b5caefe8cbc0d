//! Teachers that are damaged, missing, or of something else.

use super::{made, says};
use crate::common;
use fed_distill::artifact::tensors;
use serde_json::{Value, json};
use std::path::Path;
use tch::Tensor;

/// Rewrites a weights file with one tensor changed.
fn damage(path: &Path, change: impl Fn(&str, &Tensor) -> Tensor) {
    let (state, metadata) = tensors::read_state(path).unwrap();
    let changed: Vec<(String, Tensor)> = state
        .iter()
        .map(|(name, tensor)| (name.to_owned(), change(name, tensor)))
        .collect();
    let list: Vec<(&str, &Tensor)> = changed
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    tensors::write(path, &list, &metadata).unwrap();
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
    assert!(!place.path("initial.safetensors").exists());
}

/// Finite weights whose sums are not: the one among several teachers that has them is named.
#[test]
fn the_teacher_whose_loss_is_not_finite_is_named() {
    let place = made("train_teachers");
    let path = place.path("teachers/model_teacher1.safetensors");
    std::fs::remove_file(place.path("teachers/manifest_teacher1.json")).unwrap();
    damage(&path, |name, tensor| match name {
        "linear.weight" => tensor.full_like(3e38),
        _ => tensor.shallow_clone(),
    });
    for mode in ["cycle", "sample", "ensemble"] {
        let mode = format!("deep_inv.teachers.mode={mode}");
        let options = [&mode, "deep_inv.teachers.n=2", "overwrite=true"];
        let text = place.fails("generate_initial", &options, 1);
        says(&text, &["became NaN or infinite", "from: teacher 1"]);
        assert!(!text.contains("teacher 0"), "{text}");
    }
}

#[test]
fn a_student_selects_by_images_that_it_has() {
    let place = made("generate_initial");
    for selection in ["best_validation", "best_own_test"] {
        let selection = format!("student.selection={selection}");
        says(
            &place.fails("train_student", &[&selection], 2),
            &["`student.selection`", "only a teacher's node", "best_test"],
        );
    }
}

/// What a file says of itself is checked before anything is made from it.
#[test]
fn absurd_cards() {
    let place = made("train_teachers");
    let path = place.path("teachers/model_teacher1.safetensors");
    std::fs::remove_file(place.path("teachers/manifest_teacher1.json")).unwrap();
    let (state, metadata) = tensors::read_state(&path).unwrap();
    let list: Vec<(&str, &Tensor)> = state.iter().collect();
    for (pointer, value, words) in [
        ("/label_counts", json!(vec![1; 11]), "11 label counts"),
        (
            "/label_counts/3",
            json!(1_u64 << 62),
            "label count of 4611686018427387904",
        ),
        (
            "/synthetic_counts",
            json!(vec![1_u64 << 30; 10]),
            "10 counts of synthetic images",
        ),
        (
            "/synthetic_counts",
            json!([1]),
            "1 counts of synthetic images",
        ),
        ("/classes", json!(vec!["a"; 9]), "9 class names"),
        ("/normalisation/mean", json!([0.1, 0.2]), "2 means"),
        ("/normalisation/mean/0", json!(1e308), "a mean of 1000"),
        ("/normalisation/std", json!([]), "0 standard deviations"),
        ("/normalisation/std/0", json!(0), "standard deviation of 0"),
        (
            "/normalisation/std/0",
            json!(-1),
            "standard deviation of -1",
        ),
        ("/normalisation/std/0", json!(1e308), "deviation of 1000"),
        ("/model/size", json!(1_u64 << 40), "image size in pixels"),
        (
            "/model/model",
            json!({"kind": "linear"}),
            "tensor names differ",
        ),
        (
            "/model/model",
            json!({"kind": "resnet18", "width": 4096, "blocks": [1]}),
            "cannot be loaded into the model",
        ),
    ] {
        let mut card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
        card["synthetic_counts"] = json!([]);
        *card.pointer_mut(pointer).unwrap() = value;
        let mut changed = metadata.clone();
        changed.insert("fed_distill".into(), card.to_string());
        tensors::write(&path, &list, &changed).unwrap();
        let text = place.fails("generate_initial", &[], 1);
        says(&text, &[words, "model_teacher1.safetensors"]);
    }
    assert!(!place.path("initial.safetensors").exists());
}

#[test]
fn a_changed_teacher_is_refused_by_its_hash() {
    let place = made("generate_initial");
    damage(
        &place.path("teachers/model_teacher0.safetensors"),
        |_, tensor| tensor.shallow_clone() + 0,
    );
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
    // The split belongs to a dataset; teachers to every one of the same task.
    says(
        &place.fails("train_student", &["dataset.max_test=40"], 1),
        &["another dataset", "fingerprint"],
    );
    place.ok(
        "train_student",
        &[
            "dataset.max_test=40",
            "split.save_path=null",
            "student.save_folder=other",
        ],
    );
    says(
        &place.fails(
            "generate_initial",
            &["teacher.num_teachers=3", "overwrite=true"],
            1,
        ),
        &["teacher 2 is missing"],
    );
    says(
        &place.fails("train_teachers", &["teacher.only=[7]"], 2),
        &[
            "teacher.only",
            "teacher 7",
            "2 teachers",
            "choose from 0 to 1",
        ],
    );
    says(
        &place.fails(
            "train_teachers",
            &["teacher.only=[1]", "teacher.num_teachers=1"],
            2,
        ),
        &["teacher.only", "0 to `teacher.num_teachers` − 1"],
    );
    says(
        &place.fails("train_student", &["student.class_weights=[1,2]"], 2),
        &["2 values for 10 classes", "in this order: 0, 1, 2"],
    );
    // Nothing was begun that would have replaced the record of an earlier student.
    assert!(!place.path("student/manifest.json").exists());
    says(
        &place.fails("train_teachers", &["teacher.num_teachers=5"], 2),
        &["teacher.num_teachers", "2 nodes"],
    );
}

/// Teachers of another split, and teachers that are not there.
#[test]
fn other_and_missing_teachers() {
    let place = made("train_teachers");
    place.ok("split_data", &["seed=9", "split.save_path=other.json"]);
    let text = place.fails("generate_initial", &["split.save_path=other.json"], 1);
    says(
        &text,
        &[
            "another split",
            "other.json",
            "model_teacher0.safetensors",
            "sha256",
        ],
    );
    std::fs::remove_file(place.path("teachers/model_teacher1.safetensors")).unwrap();
    for split in ["split.save_path=split.json", "split.save_path=null"] {
        says(
            &place.fails("generate_initial", &[split], 1),
            &["teacher 1 is missing"],
        );
    }
    // Two stages under one name would overwrite each other's manifest.
    let text = place.fails(
        "generate_initial",
        &["initial.save_path=split.safetensors"],
        2,
    );
    says(
        &text,
        &["split.manifest.json", "split_data", "another name"],
    );
}

/// Who says how many teachers there should be.
#[test]
fn the_number_of_teachers_has_its_source() {
    let place = made("train_teachers");
    std::fs::remove_file(place.path("teachers/model_teacher1.safetensors")).unwrap();
    for (typed, expected) in [
        ("resume=false", "2 teachers: split.json"),
        (
            "teacher.num_teachers=2",
            "2 teachers: `teacher.num_teachers`",
        ),
        ("teacher.only=[1]", "1 teacher: `teacher.only`"),
    ] {
        let text = place.fails(
            "generate_initial",
            &["split.save_path=split.json", typed],
            1,
        );
        says(&text, &["teacher 1 is missing", expected]);
    }
}

/// Weights cannot be chosen by images that a node does not have.
#[test]
fn nodes_with_too_few_images_for_a_choice() {
    let place = made("split_data");
    let path = place.path("split.json");
    let mut split: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    split["teacher0"]["test"] = Value::Array(Vec::new());
    std::fs::write(&path, split.to_string()).unwrap();
    std::fs::remove_file(place.path("split.manifest.json")).unwrap();
    says(
        &place.fails("train_teachers", &["teacher.selection=best_own_test"], 2),
        &[
            "node 0 has no test images of its own",
            "`teacher.selection=last`",
        ],
    );
    let held = [
        "teacher.selection=best_validation",
        "teacher.validation_share=0.999",
    ];
    says(
        &place.fails("train_teachers", &held, 1),
        &[
            "to train on",
            "lower `teacher.validation_share`, which is 0.999",
        ],
    );
}

/// A folder, a file and a number that are not those of the teachers.
#[test]
fn teachers_that_are_elsewhere() {
    let place = made("train_teachers");
    let initial =
        |more: &str, code| place.fails("generate_initial", &["split.save_path=null", more], code);
    says(
        &initial("teacher.save_folder=.", 1),
        &["one folder down", "`teacher.save_folder=./teachers`"],
    );
    says(
        &initial("teacher.save_folder=teachers/model_teacher0.safetensors", 2),
        &["is a file", "`teacher.save_folder=teachers`"],
    );
    says(
        &initial("teacher.num_teachers=9", 1),
        &["teacher 2 is missing", "9 teachers: `teacher.num_teachers`"],
    );
}

/// The stage reads no image; its config is recorded as what the batches are of all the same.
#[test]
fn batches_are_made_for_the_task_of_the_teachers() {
    let place = made("train_teachers");
    let rest = common::TINY
        .iter()
        .filter(|key| !key.starts_with("dataset"));
    let rest: Vec<&str> = rest.copied().collect();
    for (more, words) in [
        (
            &["dataset=digits", "dataset.size=999"][..],
            &["image shape", "1×999×999"][..],
        ),
        (
            &["dataset=none", "dataset.num_classes=7"],
            &["class names", "7 classes"],
        ),
        (
            &["dataset.mean=[0.9]", "dataset.std=[0.5]"],
            &["normalisation", "0.9"],
        ),
    ] {
        let (code, _, text) = place.run_with("generate_initial", &rest, more);
        assert_eq!(code, 2, "{text}");
        says(&text, words);
        says(&text, &["model_teacher0.safetensors", "leave out"]);
        assert!(!place.path("initial.safetensors").exists());
    }
    // What is said of the task may be what the teachers say.
    let more = [
        "dataset=none",
        "dataset.num_classes=10",
        "split.save_path=null",
    ];
    let rest: Vec<&str> = rest
        .into_iter()
        .filter(|key| !key.starts_with("split"))
        .collect();
    let (code, _, text) = place.run_with("generate_initial", &rest, &more);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_teacher_in_two_files() {
    let place = made("train_teachers");
    std::fs::write(
        place.path("teachers/model_teacher1.pt"),
        b"not even a file of PyTorch",
    )
    .unwrap();
    let (code, _, errors) = place.run_with("generate_initial", common::TINY, &[]);
    assert_eq!(code, 0, "{errors}");
    let twice = "warning: teacher 1 is there twice: taking teachers/model_teacher1.safetensors, \
        not teachers/model_teacher1.pt";
    assert!(errors.contains(twice), "{errors}");
    assert!(!errors.contains("teacher 0 is there twice"), "{errors}");
}

#[test]
fn a_split_of_another_number_of_nodes() {
    let place = made("train_teachers");
    for nodes in ["split.num_nodes=1", "split.num_nodes=4"] {
        let other = [nodes, "split.save_path=other.json", "overwrite=true"];
        place.ok("split_data", &other);
        let text = place.fails("generate_initial", &other[..2], 1);
        let count = nodes.rsplit('=').next().unwrap();
        says(
            &text,
            &[
                "another split",
                "model_teacher0.safetensors",
                "other.json",
                &format!("{count} node"),
            ],
        );
        assert!(!text.contains("missing"), "{text}");
    }
    // Without manifests nothing tells but the numbers.
    for node in 0..2 {
        std::fs::remove_file(place.path(&format!("teachers/manifest_teacher{node}.json"))).unwrap();
    }
    let text = place.fails(
        "generate_initial",
        &["split.num_nodes=4", "split.save_path=other.json"],
        1,
    );
    says(
        &text,
        &[
            "teacher 2 is missing",
            "4 teachers: other.json",
            "2 teachers before it",
            "teacher.num_teachers",
        ],
    );
}

/// `model=…` where the teachers' files have another network changes nothing.
#[test]
fn model_key_without_effect_is_warned_about() {
    let place = made("train_teachers");
    let without: Vec<&str> = common::TINY
        .iter()
        .copied()
        .filter(|typed| !typed.starts_with("model"))
        .collect();
    let warned = |stage: &str, more: &[&str]| {
        let (code, _, errors) = place.run_with(stage, &without, more);
        assert_eq!(code, 0, "{errors}");
        errors.contains(
            "changes nothing here: the teachers bring their architecture, resnet18 \
            width 4 blocks [1]",
        )
    };
    assert!(!warned("generate_initial", &[]));
    // Neither is it another run.
    assert!(warned(
        "generate_initial",
        &["model=lenet5", "overwrite=true"]
    ));
    place.ok("generate_initial", &["resume=true"]);
    assert!(warned("train_student", &["model=lenet5"]));
    let (code, runs, _) = place.run_with("inspect", &[], &["runs", "."]);
    assert!(
        code == 0 && runs.contains("resnet18 width 4 blocks [1], cross_entropy"),
        "{runs}"
    );
}

/// One of three nodes never uploads.
#[test]
fn the_others_do_without_a_teacher_that_never_came() {
    let place = common::Place::new();
    let three = ["split.num_nodes=3"];
    place.ok("split_data", &three);
    place.ok("train_teachers", &three);
    std::fs::remove_file(place.path("teachers/model_teacher1.safetensors")).unwrap();
    let text = place.fails("generate_initial", &three, 1);
    says(&text, &["teacher 1 is missing", "`teacher.only=[0,2]`"]);
    let only = ["split.num_nodes=3", "teacher.only=[0,2]"];
    place.ok("generate_initial", &only);
    let text = place.fails("train_student", &three, 1);
    says(&text, &["teacher 1 is missing", "`teacher.only=[0,2]`"]);
    place.ok("train_student", &only);
    // Other teachers make other batches.
    let text = place.fails("generate_initial", &[three[0], "teacher.only=[2]"], 2);
    says(&text, &["teacher.only: [0,2] then, [2] now"]);
    for (only, words) in [
        ("[]", "names no teacher"),
        ("[0,0]", "names teacher 0 twice"),
        ("[0,7]", "names teacher 7, but there are 3 teachers"),
    ] {
        let only = format!("teacher.only={only}");
        let more = [three[0], &only, "initial.save_path=other.safetensors"];
        says(&place.fails("generate_initial", &more, 2), &[words]);
    }
}

/// PyTorch's files have many endings; what they hold is seen from their content.
#[test]
fn teachers_are_found_under_other_endings() {
    let place = made("train_teachers");
    let ours = place.path("teachers/model_teacher1.safetensors");
    std::fs::remove_file(place.path("teachers/manifest_teacher1.json")).unwrap();
    let bytes = std::fs::read(&ours).unwrap();
    std::fs::remove_file(&ours).unwrap();
    for ending in ["pt", "pth", "pth.tar", "th", "bin", "ckpt", "pkl"] {
        let path = place.path(&format!("teachers/model_teacher1.{ending}"));
        std::fs::write(&path, &bytes).unwrap();
        place.ok("generate_initial", &["overwrite=true"]);
        if ending != "bin" {
            std::fs::write(place.path("teachers/model_teacher1.bin"), &bytes).unwrap();
            let text = place.fails("generate_initial", &["overwrite=true"], 1);
            says(
                &text,
                &["teacher 1 is there 2 times", ending, "model_teacher1.bin"],
            );
            std::fs::remove_file(place.path("teachers/model_teacher1.bin")).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
    }
}

/// A name in a file could move the terminal's cursor, or set its title.
#[test]
fn control_characters_of_files_do_not_reach_the_terminal() {
    let place = made("train_teachers");
    let path = place.path("teachers/model_teacher1.safetensors");
    let (state, metadata) = tensors::read_state(&path).unwrap();
    let hostile = "x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}";
    let list: Vec<(String, &Tensor)> = state
        .iter()
        .enumerate()
        .map(|(index, (name, tensor))| match index {
            0 => (hostile.to_owned(), tensor),
            _ => (name.to_owned(), tensor),
        })
        .collect();
    let list: Vec<(&str, &Tensor)> = list
        .iter()
        .map(|(name, tensor)| (name.as_str(), *tensor))
        .collect();
    let mut card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
    card["classes"][0] = json!(hostile);
    card["dataset"] = json!(hostile);
    let mut changed = metadata.clone();
    changed.insert("fed_distill".into(), card.to_string());
    std::fs::remove_file(place.path("teachers/manifest_teacher1.json")).unwrap();
    tensors::write(&path, &list, &changed).unwrap();
    let shown = |stage: &str, more: &[&str]| {
        let base: &[&str] = if stage == "inspect" {
            &[]
        } else {
            common::TINY
        };
        let (_, out, errors) = place.run_with(stage, base, more);
        let text = out + &errors;
        let raw = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
        assert!(!text.contains(raw), "{more:?}: {text:?}");
        text
    };
    let file = path.to_str().unwrap();
    let text = shown("inspect", &["tensors", file]);
    assert!(
        text.contains(r"x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}"),
        "{text}"
    );
    shown("inspect", &["show", file]);
    assert!(shown("generate_initial", &[]).contains(r"\u{1b}"));
}
