//! What a tiny run of an experiment must have left.

use super::run::{Place, json};
use crate::common::config_dir;
use serde_json::Value;

/// `config/scale/tiny.yaml`.
const BATCH: u64 = 16;
const INITIAL: u64 = 2;
const EPOCHS: u64 = 2;

/// The composed config that a run recorded.
fn recorded(place: &Place, name: &str) -> Value {
    json(&place.path(&format!("outputs/{name}/student/manifest.json")))["config"].clone()
}

/// How many images there are, and of which kind.
pub fn check_images(place: &Place, name: &str) {
    let config = recorded(place, name);
    let metrics = json(&place.path(&format!("outputs/{name}/student/metrics.json")));
    let fresh = config["student"]["new_batches_per_epoch"].as_u64().unwrap() * EPOCHS;
    assert_eq!(
        metrics["synthetic_images"],
        BATCH * (INITIAL + fresh),
        "{name}"
    );
    // Only in section IV are nodes left over, whose images are the student's own.
    let own = match name.starts_with("half_") {
        true => json(&place.path("outputs/full_2_teachers/split.json"))["teacher1"]["train"]
            .as_array()
            .unwrap()
            .len(),
        false => 0,
    };
    assert_eq!(metrics["real_images"], own as u64, "{name}");
    assert_eq!(
        metrics["epochs"].as_array().unwrap().len() as u64,
        EPOCHS,
        "{name}"
    );
    assert_eq!(
        metrics["comparison"]["teachers"].as_array().unwrap().len(),
        config["teacher"]["num_teachers"]
    );
}

/// Which teachers and classes the initial batches were made from.
pub fn check_batches(place: &Place, name: &str) {
    let config = recorded(place, name);
    let folder = place.path(config["teacher"]["save_folder"].as_str().unwrap());
    let teachers = config["teacher"]["num_teachers"].as_u64().unwrap();
    let seen = |teacher: u64| {
        counts(&json(&folder.join(format!("metrics_teacher{teacher}.json")))["label_counts"])
    };
    let initial = place.path(config["initial"]["save_path"].as_str().unwrap());
    let batches = json(&initial.with_extension("metrics.json"));
    assert_eq!(batches.as_array().unwrap().len() as u64, INITIAL);
    for (index, batch) in batches.as_array().unwrap().iter().enumerate() {
        let asked = counts(&batch["label_counts"]);
        assert_eq!(asked.iter().sum::<u64>(), BATCH, "{name}");
        let own = match config["deep_inv"]["teachers"]["mode"].as_str().unwrap() {
            "cycle" => {
                assert_eq!(batch["teacher"], index as u64 % teachers, "{name}");
                seen(index as u64 % teachers)
            }
            _ => {
                assert!(batch["teacher"].is_null(), "{name}");
                (0..teachers).map(seen).fold(vec![0; 10], |sum, counts| {
                    sum.iter()
                        .zip(counts)
                        .map(|(one, other)| one + other)
                        .collect()
                })
            }
        };
        let strange = asked
            .iter()
            .zip(&own)
            .any(|(asked, seen)| *asked > 0 && *seen == 0);
        let masked = config["deep_inv"]["teachers"]["mask"].as_bool().unwrap();
        assert!(!masked || !strange, "{name}: {asked:?} of {own:?}");
        // Sixteen labels of ten classes: a teacher of some of them is asked for others too.
        let some = own.contains(&0);
        assert!(masked || !some || strange, "{name}: {asked:?} of {own:?}");
        for (term, experiment) in [
            ("entropy", "2_teachers_entropy"),
            ("rival", "2_teachers_rivals"),
        ] {
            assert_eq!(
                batch["history"][0].get(term).is_some(),
                name == experiment,
                "{name}: {term}"
            );
        }
    }
}

/// What fresh batches were made against.
pub fn check_fresh(place: &Place, name: &str) {
    let config = recorded(place, name);
    let competes = config["student"]["adaptive"].as_bool().unwrap()
        && config["deep_inv"]["adi"]["loss"]["comp_scale"] != 0.0;
    let mut batches = 0;
    for teacher in 0..config["teacher"]["num_teachers"].as_u64().unwrap() {
        let fresh = json(&place.path(&format!(
            "outputs/{name}/student/di_metrics_teacher{teacher}.json"
        )));
        for batch in fresh.as_array().unwrap() {
            let divergence = &batch["history"][0]["jensen_shannon"];
            assert_eq!(divergence.is_null(), !competes, "{name}: {divergence}");
            batches += 1;
        }
    }
    // A batch of several teachers stands in the file of each.
    assert!(
        batches >= EPOCHS * config["student"]["new_batches_per_epoch"].as_u64().unwrap(),
        "{name}: {batches}"
    );
}

/// The figures of the report.
pub fn check_pictures(place: &Place, name: &str) {
    for stem in [
        "curves",
        "per_class",
        "confusion",
        "fresh_first",
        "fresh_last",
        "dataset",
    ] {
        let picture = place.path(&format!("outputs/{name}/student/{stem}.png"));
        assert!(picture.exists(), "{name}: {stem}");
    }
    let classes =
        std::fs::read_to_string(place.path(&format!("outputs/{name}/student/per_class.svg")))
            .unwrap();
    let owned = classes.contains("(teacher 0)");
    assert_eq!(
        owned,
        !name.starts_with("iid_"),
        "{name}: owners of classes"
    );
}

/// The baselines of an experiment that has some, and the figure, as `make compare` runs them.
pub fn check_comparison(place: &Place, name: &str) {
    let (tree, chosen) = (config_dir(), format!("+experiment={name}"));
    let arguments = [
        "--config-dir",
        tree.to_str().unwrap(),
        &chosen,
        "+scale=tiny",
        "resume=true",
    ];
    for baseline in ["fed_avg", "fed_md"] {
        place.run(baseline, &arguments);
    }
    let folder = format!("outputs/{name}");
    let said = place.run("inspect", &["compare", &folder, "--json"]).stdout;
    let compared: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(compared["one_split"], true, "{name}");
    let methods = compared["methods"].as_array().unwrap().iter();
    let methods: Vec<&str> = methods
        .map(|method| method["method"].as_str().unwrap())
        .collect();
    let student = format!("student, {name}");
    let wanted = [
        &student,
        "one-shot average",
        "teachers' ensemble (label_share)",
        "FedAvg",
        "FedMD",
    ];
    assert_eq!(methods, wanted, "{name}");
    for kind in ["svg", "png"] {
        let plot = place.path(&format!("{folder}/inspect/compare.{kind}"));
        assert!(plot.exists(), "{name}: {kind}");
    }
}

fn counts(value: &Value) -> Vec<u64> {
    serde_json::from_value(value.clone()).unwrap()
}
