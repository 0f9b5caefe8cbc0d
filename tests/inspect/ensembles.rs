//! `ensembles`: the accuracies of every rule against the library's own evaluation and the student's
//! table, of teachers by folder, alone and without a manifest.

use crate::common::TINY;
use crate::{copy, data, experiment, inspect, line, metrics};
use fed_distill::artifact::tensors;
use fed_distill::data::{Dataset, DatasetSettings, load};
use fed_distill::inversion::{Ensemble, EnsembleKind, Teacher, estimate_class_shares};
use fed_distill::model::{Model, ModelSpec};
use fed_distill::train::evaluate;
use serde_json::{Value, json};
use tch::{Device, Tensor};

const DATASET: [&str; 4] = [
    "dataset=digits",
    "dataset.size=8",
    "dataset.max_train=200",
    "dataset.max_test=50",
];

/// The experiment's teachers.
fn teachers() -> Vec<Teacher> {
    let read = |node| {
        let path = experiment().path(&format!("teachers/model_teacher{node}.safetensors"));
        let (state, metadata) = tensors::read_state(&path).unwrap();
        let card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
        let spec: ModelSpec = serde_json::from_value(card["model"].clone()).unwrap();
        let counts = serde_json::from_value(card["label_counts"].clone()).unwrap();
        let model = Model::from_state(&spec, &state, Device::Cpu).unwrap();
        Teacher::new(model, counts).unwrap()
    };
    vec![read(0), read(1)]
}

/// The images of `DATASET`.
fn digits() -> Dataset {
    let settings = DatasetSettings {
        size: Some(8),
        max_train: Some(200),
        max_test: Some(50),
        ..DatasetSettings::default()
    };
    load(&settings, Device::Cpu).unwrap()
}

/// Each batch through the ensemble itself, as the student's stage measures it.
#[test]
fn every_rule_at_every_temperature() {
    let found = data(&["ensembles", "teachers", "--temperatures", "1,4,0.25"]);
    let dataset = digits();
    let teachers = teachers();
    let all: Vec<&Teacher> = teachers.iter().collect();
    assert_eq!(found["temperatures"], json!([1.0, 4.0, 0.25]));
    assert_eq!(found["test_images"], 50);
    let accuracies = &found["accuracies"];
    let mut distinct = std::collections::BTreeSet::new();
    for (name, rule) in [
        ("mean_logits", EnsembleKind::MeanLogits),
        ("mean_softmax", EnsembleKind::MeanSoftmax),
        ("label_share", EnsembleKind::LabelShare),
        ("label_gated", EnsembleKind::LabelShare),
        ("made_from", EnsembleKind::MeanSoftmax),
    ] {
        let ensemble = Ensemble::new(rule, &all, Device::Cpu);
        for (index, temperature) in [1.0, 4.0, 0.25].into_iter().enumerate() {
            let predict = |images: &Tensor| ensemble.predict(&all, images, temperature);
            let wanted = evaluate(&predict, &dataset.test, &dataset.normalisation, 10, 9);
            let wanted = wanted.unwrap().accuracy();
            let ours = accuracies["rules"][name][index].as_f64();
            assert_eq!(ours, wanted, "{name} at {temperature}");
            distinct.insert(wanted.unwrap().to_bits());
        }
    }
    assert!(distinct.len() > 1, "all rules are alike on these teachers");
    // The student's table has some of them.
    let comparison = &metrics(1)["comparison"];
    assert_eq!(accuracies["teachers"], comparison["teachers"]);
    assert_eq!(
        accuracies["one_shot_average"],
        comparison["one_shot_average"]
    );
    assert_eq!(
        accuracies["rules"]["label_share"][0],
        comparison["ensemble"]
    );
}

/// With `teacher.counts_from=weights` the shares are estimated, and the rules without shares are as
/// before.
#[test]
fn shares_from_the_teachers_weights() {
    let told = data(&["ensembles", "teachers"]);
    let found = data(&["ensembles", "teachers", "teacher.counts_from=weights"]);
    let dataset = digits();
    let estimated = |teacher: Teacher| {
        let counts = estimate_class_shares(&teacher.loaded().unwrap().model).unwrap();
        let counts = counts.iter().map(|share| (share * 10_000.0).round() as u64);
        let state = teacher.loaded().unwrap().model.state();
        let model = Model::from_state(&teacher.spec, &state, Device::Cpu).unwrap();
        Teacher::new(model, counts.collect()).unwrap()
    };
    let teachers: Vec<Teacher> = teachers().into_iter().map(estimated).collect();
    let all: Vec<&Teacher> = teachers.iter().collect();
    let ensemble = Ensemble::new(EnsembleKind::LabelShare, &all, Device::Cpu);
    let predict = |images: &Tensor| ensemble.predict(&all, images, 1.0);
    let wanted = evaluate(&predict, &dataset.test, &dataset.normalisation, 10, 9);
    let counts: Vec<&Vec<u64>> = teachers.iter().map(|own| &own.label_counts).collect();
    assert_eq!(found["accuracies"]["label_counts"], json!(counts));
    assert_ne!(
        found["accuracies"]["label_counts"],
        told["accuracies"]["label_counts"]
    );
    let rule = |found: &Value, name: &str| found["accuracies"]["rules"][name][0].clone();
    assert_eq!(
        rule(&found, "label_share").as_f64(),
        wanted.unwrap().accuracy()
    );
    assert_eq!(rule(&found, "mean_softmax"), rule(&told, "mean_softmax"));
}

#[test]
fn the_tables_show_what_the_json_holds() {
    let table = inspect(&["ensembles", "teachers", "--temperatures", "1,4"]);
    let found = data(&["ensembles", "teachers", "--temperatures", "1,4"]);
    let percent = |value: &Value| format!("{:.1} %", 100.0 * value.as_f64().unwrap());
    let accuracies = &found["accuracies"];
    let teachers = accuracies["teachers"].as_array().unwrap();
    assert_eq!(line(&table, "teacher 1")[1], percent(&teachers[1]));
    let best = teachers
        .iter()
        .max_by(|a, b| a.as_f64().partial_cmp(&b.as_f64()).unwrap());
    assert_eq!(line(&table, "teachers, best")[1], percent(best.unwrap()));
    let average = line(&table, "one-shot average");
    assert_eq!(average[1], percent(&accuracies["one_shot_average"]));
    assert_eq!(line(&table, "joint prediction")[1..], ["T = 1", "T = 4"]);
    for (name, start) in [
        ("mean_softmax", "mean_softmax"),
        ("label_gated", "label_gated (as label_share)"),
        ("made_from", "made_from (as mean_softmax)"),
    ] {
        let each = accuracies["rules"][name].as_array().unwrap().iter();
        assert_eq!(
            line(&table, start)[1..],
            each.map(percent).collect::<Vec<_>>()
        );
    }
    assert!(table.contains("50 test images of digits"), "{table}");
}

/// As the stages read them: some of them, without a manifest, of different architectures.
#[test]
fn teachers_by_folder() {
    let both = data(&["ensembles", "teachers"]);
    let second = data(&["ensembles", "teachers", "teacher.only=[1]"]);
    let of = |found: &Value, index: usize| found["accuracies"]["teachers"][index].clone();
    assert_eq!(
        second["accuracies"]["teachers"].as_array().unwrap().len(),
        1
    );
    assert_eq!(of(&second, 0), of(&both, 1));
    assert_eq!(
        second["accuracies"]["rules"]["mean_softmax"][0],
        of(&both, 1)
    );

    let place = copy();
    for node in 0..2 {
        std::fs::remove_file(place.path(&format!("teachers/manifest_teacher{node}.json"))).unwrap();
    }
    let json = |more: &[&str]| {
        let (code, out, errors) =
            place.run_with("inspect", &["ensembles", "teachers", "--json"], more);
        assert_eq!(code, 0, "{errors}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let (code, _, errors) = place.run_with("inspect", &["ensembles", "teachers"], &[]);
    assert_eq!(code, 2, "{errors}");
    assert!(
        errors.contains("no manifest says which dataset")
            && errors.contains("`inspect ensembles teachers dataset=digits`"),
        "{errors}"
    );
    assert_eq!(json(&DATASET)["accuracies"], both["accuracies"]);

    let mixed: Vec<&str> = TINY
        .iter()
        .copied()
        .filter(|typed| !typed.contains("model"))
        .collect();
    let more = [
        "model=lenet5",
        "teacher.only=[1]",
        "split.unif_percentage=0",
        "overwrite=true",
        "teacher.epochs=1",
    ];
    let (code, _, errors) = place.run_with("train_teachers", &mixed, &more);
    assert_eq!(code, 0, "{errors}");
    let found = json(&DATASET);
    assert!(found["accuracies"]["one_shot_average"].is_null());
    assert!(found["accuracies"]["rules"]["mean_logits"][0].is_f64());
}

#[test]
fn mistakes_are_told() {
    let fails = |arguments: &[&str], words: &[&str]| {
        let (code, out, errors) = experiment().run_with("inspect", &["ensembles"], arguments);
        assert!(
            code != 0 && out.is_empty() && !errors.contains("panicked"),
            "{errors}"
        );
        assert!(
            words.iter().all(|word| errors.contains(word)),
            "{arguments:?}: {errors}"
        );
    };
    fails(&[], &["`inspect ensembles` needs <FOLDER>"]);
    fails(
        &["teacher"],
        &["there is no folder `teacher`", "did you mean `teachers`?"],
    );
    fails(
        &["teachers/model_teacher0.safetensors"],
        &["is a file, not a folder", "in is `teachers`"],
    );
    let images = [&["students/1"], &DATASET[..]].concat();
    for typed in [&images[..1], &images] {
        let meant = "`inspect ensembles teachers`";
        fails(typed, &["`students/1` holds no teachers", meant]);
    }
    for wrong in ["0", "-1", "inf", "warm"] {
        let typed = format!("--temperatures={wrong}");
        fails(&["teachers", &typed], &[wrong, "a number above 0"]);
    }
    fails(
        &["teachers", "dataset=digits", "dataset.size=16"],
        &["images of another shape", "dataset.size=8"],
    );
    fails(
        &["teachers", "teacher.only=[0,7]"],
        &["teacher 7 is missing"],
    );
    fails(&["teachers", "teacher.only=[7]"], &["teacher 7 is missing"]);
    fails(
        &["teachers", "student.epochs=7"],
        &[
            "`inspect ensembles teachers` does not read `student.epochs`",
            "student.eval_batch_size, teacher.counts_from",
        ],
    );
    fails(
        &["teachers", "dataset.max_test=20"],
        &[
            "this is not the dataset that was used",
            "dataset.max_test: 50 then, 20 now",
        ],
    );
}

/// A setting of the dataset alone leaves the others as the teachers' runs recorded them.
#[test]
fn one_setting_of_the_recorded_dataset() {
    let all = ["ensembles", "teachers", "device=cpu", "dataset.size=8"];
    assert_eq!(data(&all), data(&all[..3]));
}
