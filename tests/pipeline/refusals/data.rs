//! Models that meet other data than they were trained on: normalised otherwise, or with classes of
//! other names.

use super::{made, says};
use crate::common::Place;
use fed_distill::artifact::tensors;
use serde_json::{Value, json};
use tch::Tensor;

/// How the teachers' data are normalised, and not by the statistics of the images.
const CONSTANTS: [&str; 2] = ["dataset.mean=[0.5]", "dataset.std=[0.25]"];

/// Rewrites the card of a file of tensors, and removes the manifest that would tell.
fn change_card(place: &Place, file: &str, manifest: &str, pointer: &str, value: &Value) {
    let path = place.path(file);
    let _ = std::fs::remove_file(place.path(manifest));
    let read = tensors::read(&path).unwrap();
    let mut card: Value = serde_json::from_str(&read.metadata["fed_distill"]).unwrap();
    *card.pointer_mut(pointer).unwrap() = value.clone();
    let mut metadata = read.metadata.clone();
    metadata.insert("fed_distill".into(), card.to_string());
    let list: Vec<(&str, &Tensor)> = read
        .tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    tensors::write(&path, &list, &metadata).unwrap();
}

fn change_teacher(place: &Place, node: usize, pointer: &str, value: &Value) {
    change_card(
        place,
        &format!("teachers/model_teacher{node}.safetensors"),
        &format!("teachers/manifest_teacher{node}.json"),
        pointer,
        value,
    );
}

/// The test images, the student's own, padding and pictures follow the teachers' card: with and
/// without the constants in the config, a student's numbers are the same.
#[test]
fn teachers_normalisation_is_taken_where_none_is_set() {
    let place = Place::new();
    place.ok("split_data", &["split.num_nodes=3"]);
    let more = ["split.num_nodes=3", "teacher.num_teachers=2"];
    for stage in ["train_teachers", "generate_initial"] {
        place.ok(stage, &[&more[..], &CONSTANTS].concat());
    }
    let student = |folder: &str, constants: &[&str]| {
        let folder = format!("student.save_folder={folder}");
        place.ok(
            "train_student",
            &[&more[..], constants, &[&folder]].concat(),
        );
    };
    student("with", &CONSTANTS);
    student("without", &[]);
    for file in ["metrics.json", "student.safetensors", "dataset.png"] {
        let read = |folder| std::fs::read(place.path(&format!("{folder}/{file}"))).unwrap();
        assert!(read("with") == read("without"), "{file}");
    }
}

#[test]
fn another_normalisation_is_refused_with_both_values() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &CONSTANTS);
    }
    let trained = "mean [0.5], std [0.25]: teachers/model_teacher0.safetensors";
    for (constants, found) in [
        (
            ["dataset.mean=[0.3]", "dataset.std=[0.25]"],
            "mean [0.3], std [0.25]",
        ),
        (
            ["dataset.mean=[0.5]", "dataset.std=[0.5]"],
            "mean [0.5], std [0.5]",
        ),
    ] {
        let text = place.fails("train_student", &constants, 1);
        let words = ["another normalisation", trained, found];
        says(&text, &words);
        says(&text, &["dataset.mean=null dataset.std=null"]);
    }
    assert!(!place.path("student").exists());

    let images = ["neighbours", "initial.safetensors", "--samples=8"];
    let dataset = ["dataset=digits", "dataset.size=8", "dataset.max_train=200"];
    let inspect = |constants: &[&str]| {
        let all = [&images[..], &dataset, &["dataset.max_test=50"], constants].concat();
        place.run_with("inspect", &all, &[])
    };
    let (code, _, errors) = inspect(&["dataset.mean=[0.3]", "dataset.std=[0.25]"]);
    assert_eq!(code, 1, "{errors}");
    says(
        &errors,
        &["mean [0.5]", "initial.safetensors", "mean [0.3]"],
    );
    let (code, _, errors) = inspect(&[]);
    assert_eq!(code, 0, "{errors}");
}

/// Labels are numbers: with two names exchanged, every image of the two classes counts as wrong.
#[test]
fn classes_of_other_names_are_refused() {
    let place = made("generate_initial");
    let names = json!(["0", "1", "2", "3", "cat", "5", "6", "7", "8", "9"]);
    let named = ["class 4 is `4`", "class 4 is `cat`"];
    change_teacher(&place, 1, "/classes", &names);
    let text = place.fails("generate_initial", &["overwrite=true"], 1);
    says(&text, &["they differ in class names", "model_teacher1"]);
    says(&text, &named);

    change_teacher(&place, 0, "/classes", &names);
    let initial = ["initial.safetensors", "initial.manifest.json"];
    change_card(&place, initial[0], initial[1], "/classes", &names);
    let text = place.fails("train_student", &[], 1);
    says(&text, &["trained on other classes", "model_teacher0"]);
    says(&text, &named);
}

/// Initial batches without a manifest still say what their pixels mean.
#[test]
fn initial_batches_of_another_normalisation_are_refused() {
    let place = made("generate_initial");
    change_card(
        &place,
        "initial.safetensors",
        "initial.manifest.json",
        "/normalisation/mean",
        &json!([0.75]),
    );
    let text = place.fails("train_student", &[], 1);
    says(
        &text,
        &[
            "they differ in normalisation",
            "[0.75]",
            "initial.safetensors",
        ],
    );
}
