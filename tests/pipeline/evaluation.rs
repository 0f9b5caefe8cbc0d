//! `eval_every`: which epochs are evaluated, that training and the other numbers stay the same, and
//! that a node's own test accuracy is that of its part of the test set.

use crate::common::{Place, TINY};
use fed_distill::artifact::{hash, tensors};
use fed_distill::data::{self, DatasetSettings};
use fed_distill::model::{Model, ModelSpec};
use fed_distill::train::evaluate;
use serde_json::{Value, json};
use std::path::Path;
use tch::Device;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The numbers of a key, epoch by epoch.
fn of(metrics: &Value, key: &str) -> Vec<Option<f64>> {
    let epochs = metrics["epochs"].as_array().unwrap().iter();
    epochs.map(|epoch| epoch[key].as_f64()).collect()
}

/// What remains of the numbers of every epoch where every second one of five is evaluated.
fn thinned(every: &[Option<f64>]) -> Vec<Option<f64>> {
    assert_eq!(every.len(), 5);
    let kept =
        |(epoch, number): (usize, &Option<f64>)| number.filter(|_| [1, 3, 4].contains(&epoch));
    every.iter().enumerate().map(kept).collect()
}

#[test]
fn teachers_evaluate_every_second_epoch() {
    let place = Place::new();
    place.ok("split_data", &[]);
    let train = |more: &[&str]| {
        let all = [&["teacher.epochs=5", "overwrite=true"], more].concat();
        place.ok("train_teachers", &all);
        let weights = hash::file(&place.path("teachers/model_teacher1.safetensors")).unwrap();
        (read(&place.path("teachers/metrics_teacher1.json")), weights)
    };
    for selection in ["last", "best_test", "best_own_test", "best_validation"] {
        let selection = format!("teacher.selection={selection}");
        let (every, weights) = train(&[&selection]);
        let (second, others) = train(&[&selection, "teacher.eval_every=2"]);
        for key in ["test_accuracy", "own_test_accuracy", "validation_accuracy"] {
            assert_eq!(of(&second, key), thinned(&of(&every, key)), "{key}");
        }
        for key in ["train_loss", "train_accuracy", "lr"] {
            assert_eq!(of(&second, key), of(&every, key), "{key}");
        }
        assert_eq!(second["final_test_accuracy"], every["final_test_accuracy"]);
        let saved = second["saved_epoch"].as_u64().unwrap() as usize;
        let compared = match selection.rsplit('=').next().unwrap() {
            "last" => {
                assert_eq!((saved, weights), (4, others));
                continue;
            }
            "best_validation" => "validation_accuracy",
            "best_own_test" => "own_test_accuracy",
            _ => "test_accuracy",
        };
        let chosen = of(&second, compared);
        assert!(chosen[saved].is_some(), "an epoch that was not evaluated");
        assert_eq!(
            chosen[saved],
            chosen.iter().flatten().copied().reduce(f64::max)
        );
        assert_eq!(
            second["saved_test_accuracy"].as_f64(),
            of(&second, "test_accuracy")[saved]
        );
    }
    let log = std::fs::read_to_string(place.path("teachers/metrics_teacher1.jsonl")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[0]["test_accuracy"].is_null() && lines[1]["test_accuracy"].is_f64());
}

/// The library's own evaluation of the part's images, taken out of the set.
#[test]
fn own_accuracy_is_that_of_the_part() {
    let place = Place::new();
    let uneven = ["split.unif_percentage=0", "teacher.epochs=3"];
    place.ok("split_data", &uneven);
    place.ok("train_teachers", &uneven);
    let settings: DatasetSettings = serde_json::from_value(json!({
        "kind": "digits", "size": 8, "max_train": 200, "max_test": 50,
    }))
    .unwrap();
    let dataset = data::load(&settings, Device::Cpu).unwrap();
    let split = read(&place.path("split.json"));
    for node in 0..2 {
        let path = place.path(&format!("teachers/model_teacher{node}.safetensors"));
        let (state, metadata) = tensors::read_state(&path).unwrap();
        let card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
        let spec: ModelSpec = serde_json::from_value(card["model"].clone()).unwrap();
        let model = Model::from_state(&spec, &state, Device::Cpu).unwrap();
        let part: Vec<usize> =
            serde_json::from_value(split[format!("teacher{node}")]["test"].clone()).unwrap();
        assert!((10..40).contains(&part.len()), "{}", part.len());
        let set = dataset.test.select(&part).unwrap();
        let predict = |images: &tch::Tensor| Ok(model.eval(images));
        let found = evaluate(&predict, &set, &dataset.normalisation, 10, 7).unwrap();
        let metrics = read(&place.path(&format!("teachers/metrics_teacher{node}.json")));
        assert_eq!(of(&metrics, "own_test_accuracy")[2], found.accuracy());
        assert_eq!(metrics["test_images"], part.len());
    }
}

#[test]
fn a_student_evaluates_every_second_epoch() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &[]);
    }
    let train = |more: &[&str]| {
        let common = [
            "student.epochs=5",
            "student.new_batches_per_epoch=1",
            "overwrite=true",
        ];
        place.ok("train_student", &[&common, more].concat());
        let weights = hash::file(&place.path("student/student.safetensors")).unwrap();
        (read(&place.path("student/metrics.json")), weights)
    };
    let (every, weights) = train(&[]);
    let (second, others) = train(&["student.eval_every=2"]);
    assert_eq!(weights, others);
    assert_eq!(
        of(&second, "test_accuracy"),
        thinned(&of(&every, "test_accuracy"))
    );
    assert_eq!(of(&second, "train_loss"), of(&every, "train_loss"));
    for key in [
        "final_test_accuracy",
        "saved_test_accuracy",
        "comparison",
        "confusion",
    ] {
        assert_eq!(second[key], every[key], "{key}");
    }
    let classes = |epoch: usize| {
        second["epochs"][epoch]["per_class_accuracy"]
            .as_array()
            .unwrap()
    };
    assert_eq!(classes(0).len(), 10);
    assert!(classes(0).iter().all(Value::is_null) && classes(1).iter().any(Value::is_f64));
    let (best, _) = train(&["student.eval_every=2", "student.selection=best_test"]);
    let accuracies = of(&best, "test_accuracy");
    let saved = best["saved_epoch"].as_u64().unwrap() as usize;
    assert!(accuracies[saved].is_some());
    assert_eq!(
        accuracies[saved],
        accuracies.iter().flatten().copied().reduce(f64::max)
    );
    // The plots and the report do with the epochs there are.
    assert!(place.path("student/per_class.svg").exists());
    for arguments in [["show", "student"], ["report", "student"]] {
        let (code, _, errors) = place.run_with("inspect", &arguments, &[]);
        assert_eq!(code, 0, "{errors}");
    }
}

#[test]
fn zero_is_refused() {
    for key in ["teacher.eval_every=0", "student.eval_every=0"] {
        let (code, _, errors) = Place::new().run_with("train_student", TINY, &[key]);
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains(key.trim_end_matches("=0")), "{errors}");
    }
}
