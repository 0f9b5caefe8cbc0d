//! The `fed_avg` binary on tiny data: what it writes, that bytes add up, that an interrupted run ends as one that was not, and what it refuses.

mod common;
#[path = "common/signals.rs"]
mod signals;

use common::{Place, TINY};
use fed_distill::artifact::{hash, tensors};
use serde_json::Value;
use std::process::{Command, Stdio};

const SMALL: [&str; 7] = [
    "split.num_nodes=4",
    "fed_avg.save_folder=fed",
    "fed_avg.rounds=3",
    "fed_avg.fraction=0.5",
    "fed_avg.batch_size=16",
    "fed_avg.augment.crop=1",
    "fed_avg.optimizer.lr=0.05",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SMALL.into_iter().chain(more.iter().copied()).collect()
}

fn lines(place: &Place) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path("fed/metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn rounds_leave_a_model_metrics_and_bytes() {
    let place = Place::new();
    place.ok("split_data", &with(&[]));
    let table = place.ok("fed_avg", &with(&[]));
    for words in ["round", "uploaded", "global model: final", "global.safetensors"] {
        assert!(table.contains(words), "no `{words}` in\n{table}");
    }
    let (state, metadata) = tensors::read_state(&place.path("fed/global.safetensors")).unwrap();
    let card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
    let images: u64 = card["label_counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(images, 200);
    let rounds = lines(&place);
    assert_eq!(rounds.len(), 3);
    let mut uploads = 0;
    for (index, round) in rounds.iter().enumerate() {
        assert_eq!(
            (&round["round"], &round["event"]),
            (&Value::from(index + 1), &Value::from("round"))
        );
        let nodes = round["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 2);
        assert!(round["test_accuracy"].is_f64(), "{round}");
        let mut sum = (0, 0);
        for node in nodes {
            assert!(node["own_test_accuracy"].is_f64() && node["images"] == 50, "{node}");
            for part in node["traffic"].as_array().unwrap() {
                let (bytes, values) = (part["bytes"].as_u64().unwrap(), part["values"].as_u64().unwrap());
                if part["kind"] == "model" {
                    assert_eq!(values, state.bytes());
                }
                match part["direction"].as_str().unwrap() {
                    "upload" => sum.0 += bytes,
                    _ => sum.1 += bytes,
                }
            }
        }
        assert_eq!(
            (&round["upload_bytes"], &round["download_bytes"]),
            (&Value::from(sum.0), &Value::from(sum.1))
        );
        uploads += sum.0;
    }
    let metrics: Value = serde_json::from_slice(&std::fs::read(place.path("fed/metrics.json")).unwrap()).unwrap();
    assert_eq!(metrics["upload_bytes"], uploads);
    assert_eq!(metrics["model_bytes"], state.bytes());
    assert_eq!(metrics["final_test_accuracy"], rounds[2]["test_accuracy"]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(place.path("fed/manifest.json")).unwrap()).unwrap();
    assert_eq!(
        (&manifest["stage"], &manifest["status"]),
        (&Value::from("fed_avg"), &Value::from("done"))
    );
    assert!(manifest["inputs"][0]["path"].as_str().unwrap().ends_with("split.json"));
}

#[test]
fn every_option_runs_and_they_differ() {
    let place = Place::new();
    place.ok("split_data", &with(&[]));
    let mut seen = std::collections::BTreeSet::new();
    for options in [
        &["+fed_avg=average"][..],
        &["+fed_avg=momentum"],
        &["+fed_avg=adam"],
        &["+fed_avg=prox", "fed_avg.proximal=1"],
        &["fed_avg.statistics=local"],
        &["fed_avg.batch_size=null"],
        &["teacher.num_teachers=2"],
    ] {
        place.ok("fed_avg", &with(&[options, &["overwrite=true"]].concat()));
        assert!(
            seen.insert(hash::file(&place.path("fed/global.safetensors")).unwrap().1),
            "{options:?}"
        );
        let has_accuracy = lines(&place)[2]["test_accuracy"].is_f64();
        assert_eq!(has_accuracy, options != ["fed_avg.statistics=local"]);
    }
}

#[test]
fn an_interrupted_run_ends_as_one_that_was_not() {
    for statistics in ["fed_avg.statistics=average", "fed_avg.statistics=local"] {
        let options = with(&["fed_avg.rounds=60", "+fed_avg=adam", statistics]);
        let (calm, stopped) = (Place::new(), Place::new());
        for place in [&calm, &stopped] {
            place.ok("split_data", &options);
        }
        calm.ok("fed_avg", &options);
        let mut child = signals::heard(&mut Command::new(assert_cmd::cargo::cargo_bin("fed_avg")))
            .current_dir(stopped.path("."))
            .args(TINY)
            .args(&options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let metrics = stopped.path("fed/metrics.jsonl");
        while std::fs::metadata(&metrics).map_or(0, |data| data.len()) < 2000 {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let rounds = lines(&stopped).len();
        assert!((1..60).contains(&rounds), "{rounds}");
        let errors = stopped.fails("fed_avg", &options, 2);
        assert!(errors.contains("resume=true"), "{errors}");
        stopped.ok("fed_avg", &[&options[..], &["resume=true"]].concat());
        for file in ["fed/global.safetensors", "fed/metrics.jsonl", "fed/metrics.json"] {
            assert_eq!(
                std::fs::read(calm.path(file)).unwrap(),
                std::fs::read(stopped.path(file)).unwrap(),
                "{file}, {statistics}"
            );
        }
    }
}

#[test]
fn mistakes_are_refused() {
    let place = Place::new();
    let says = |text: String, words: &[&str]| {
        words
            .iter()
            .for_each(|word| assert!(text.contains(word), "no `{word}` in\n{text}"))
    };
    says(place.fails("fed_avg", &[], 2), &["fed_avg.save_folder"]);
    says(
        place.fails("fed_avg", &with(&["split.save_path=null"]), 2),
        &["split.save_path"],
    );
    says(place.fails("fed_avg", &with(&[]), 1), &["split_data"]);
    place.ok("split_data", &with(&[]));
    says(
        place.fails("fed_avg", &with(&["fed_avg.fraction=0"]), 2),
        &["fed_avg.fraction", "greater than 0"],
    );
    says(
        place.fails("fed_avg", &with(&["fed_avg.fractoin=1"]), 2),
        &["fed_avg.fraction"],
    );
    says(
        place.fails("fed_avg", &with(&["fed_avg.optimizer.lr=1e30"]), 1),
        &["node", "round"],
    );
    says(
        place.fails("fed_avg", &with(&["dataset.max_train=150"]), 1),
        &["split.json"],
    );
    place.ok("fed_avg", &with(&["overwrite=true"]));
    says(place.fails("fed_avg", &with(&[]), 2), &["overwrite=true"]);
    let before = hash::file(&place.path("fed/global.safetensors")).unwrap();
    place.ok("fed_avg", &with(&["resume=true"]));
    assert_eq!(before, hash::file(&place.path("fed/global.safetensors")).unwrap());
}
