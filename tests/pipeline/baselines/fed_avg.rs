//! Federated averaging.

use super::support::*;
use crate::common::{Place, TINY};
use fed_distill::artifact::{hash, tensors};
use fed_distill::data::{DatasetSettings, load};
use serde_json::Value;
use tch::{Device, Kind};

const SMALL: [&str; 7] = [
    "split.num_nodes=4",
    "fed_avg.save_folder=fed",
    "fed_avg.rounds=3",
    "fed_avg.fraction=0.5",
    "fed_avg.batch_size=16",
    "fed_avg.augment.crop=1",
    "fed_avg.optimizer.lr=0.05",
];

const FILES: [&str; 3] = [
    "fed/global.safetensors",
    "fed/metrics.jsonl",
    "fed/metrics.json",
];

#[test]
fn ranks_without_a_node_are_said() {
    let place = Place::new();
    place.ok("split_data", &SMALL);
    let said = |ranks: &str, folder: &str| {
        let options = with(&SMALL, &["fed_avg.rounds=1", ranks, folder]);
        let (code, _, log) = place.run_with("fed_avg", TINY, &options);
        assert_eq!(code, 0, "{log}");
        log.contains("9 ranks share 4 nodes, so 5 have nothing to do: `fed_avg.ranks=4`")
    };
    assert!(said("fed_avg.ranks=9", "fed_avg.save_folder=many"));
    assert!(!said("fed_avg.ranks=4", "fed_avg.save_folder=four"));
}

#[test]
fn rounds_leave_a_model_metrics_and_bytes() {
    let place = Place::new();
    place.ok("split_data", &SMALL);
    let table = place.ok("fed_avg", &SMALL);
    says(
        &table,
        &[
            "round",
            "uploaded",
            "global model: final",
            "global.safetensors",
        ],
    );
    let (state, metadata) = tensors::read_state(&place.path(FILES[0])).unwrap();
    assert_eq!(images(&metadata), 200);
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
        for node in nodes {
            assert!(
                node["own_test_accuracy"].is_f64() && node["images"] == 50,
                "{node}"
            );
        }
        let (up, _) = bytes(round, &|part| {
            assert!(
                part["kind"] != "model" || part["values"] == state.bytes(),
                "{part}"
            );
        });
        uploads += up;
    }
    let metrics = json(&place, "fed/metrics.json");
    assert_eq!(metrics["upload_bytes"], uploads);
    assert_eq!(metrics["model_bytes"], state.bytes());
    assert_eq!(metrics["final_test_accuracy"], rounds[2]["test_accuracy"]);
    let manifest = json(&place, "fed/manifest.json");
    assert_eq!(
        (&manifest["stage"], &manifest["status"]),
        (&Value::from("fed_avg"), &Value::from("done"))
    );
    assert!(
        manifest["inputs"][0]["path"]
            .as_str()
            .unwrap()
            .ends_with("split.json")
    );
}

/// A softmax regression is worked out by hand.
#[test]
fn global_model_is_tested_on_training_images() {
    let place = Place::new();
    let linear = [
        "model.kind=linear",
        "model.width=null",
        "model.blocks=null",
        "fed_avg.eval_every=2",
    ];
    place.ok("split_data", &SMALL);
    place.ok(
        "fed_avg",
        &with(
            &SMALL,
            &[&linear[..], &["fed_avg.eval_train=true"]].concat(),
        ),
    );
    let found: Vec<_> = lines(&place)
        .iter()
        .map(|round| round["global_train_accuracy"].as_f64())
        .collect();
    assert!(found[0].is_none() && found[1].is_some(), "{found:?}");
    let settings = DatasetSettings {
        size: Some(8),
        max_train: Some(200),
        max_test: Some(50),
        ..DatasetSettings::default()
    };
    let digits = load(&settings, Device::Cpu).unwrap();
    let (state, _) = tensors::read_state(&place.path(FILES[0])).unwrap();
    let (mean, std) = (digits.normalisation.mean[0], digits.normalisation.std[0]);
    let pixels = (digits.train.images.to_kind(Kind::Float) / 255.0 - mean) / std;
    let weight = |name: &str| state.get(name).unwrap();
    let logits = pixels
        .flatten(1, -1)
        .linear(weight("fc1.weight"), Some(weight("fc1.bias")));
    let right = logits
        .argmax(1, false)
        .eq_tensor(&digits.train.labels)
        .sum(Kind::Int64);
    let right = i64::try_from(right).unwrap();
    assert!((20..200).contains(&right), "{right} of 200 tell nothing");
    assert!(
        (found[2].unwrap() - right as f64 / 200.0).abs() < 1e-9,
        "{found:?}, {right}"
    );

    place.ok(
        "fed_avg",
        &with(&SMALL, &[&linear[..], &["overwrite=true"]].concat()),
    );
    assert!(
        lines(&place)
            .iter()
            .all(|round| round["global_train_accuracy"].is_null())
    );
}

#[test]
fn every_option_runs_and_they_differ() {
    let place = Place::new();
    place.ok("split_data", &SMALL);
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
        place.ok(
            "fed_avg",
            &with(&SMALL, &[options, &["overwrite=true"]].concat()),
        );
        assert!(
            seen.insert(hash::file(&place.path(FILES[0])).unwrap().1),
            "{options:?}"
        );
        let has_accuracy = lines(&place)[2]["test_accuracy"].is_f64();
        assert_eq!(has_accuracy, options != ["fed_avg.statistics=local"]);
    }
}

/// Adam at the rate of plain averaging is no FedAdam.
#[test]
fn adam_at_the_server_without_a_rate_of_its_own_is_told_of() {
    let place = Place::new();
    place.ok("split_data", &SMALL);
    let warning = "`fed_avg.server.lr` is 1, which is meant for averaging";
    let told = |options: &[&str]| {
        let options = with(&SMALL, &[options, &["overwrite=true"]].concat());
        let (code, _, errors) = place.run_with("fed_avg", TINY, &options);
        assert_eq!(code, 0, "{errors}");
        errors.contains(warning)
    };
    assert!(told(&["fed_avg.server.kind=adam"]));
    assert!(!told(&[
        "fed_avg.server.kind=adam",
        "fed_avg.server.lr=0.01"
    ]));
    assert!(!told(&["+fed_avg=adam"]));
    assert!(!told(&["+fed_avg=momentum"]));
}

#[test]
fn an_interrupted_run_ends_as_one_that_was_not() {
    for statistics in ["fed_avg.statistics=average", "fed_avg.statistics=local"] {
        let options = with(&SMALL, &["fed_avg.rounds=60", "+fed_avg=adam", statistics]);
        let calm = Place::new();
        calm.ok("split_data", &options);
        calm.ok("fed_avg", &options);
        let stop = Stop {
            signal: libc::SIGINT,
            file: "fed/metrics.jsonl",
            bytes: 2000,
            caught: |place| (1..60).contains(&lines(place).len()),
        };
        let stopped = stop.stage("fed_avg", &options);
        stopped.ok("fed_avg", &with(&options, &["resume=true"]));
        same(&calm, &stopped, &FILES, statistics);
    }
}

#[test]
fn mistakes_are_refused() {
    let place = Place::new();
    let refused = |more: &[&str], code: i32, words: &[&str]| {
        says(&place.fails("fed_avg", &with(&SMALL, more), code), words)
    };
    says(&place.fails("fed_avg", &[], 2), &["fed_avg.save_folder"]);
    refused(&["split.save_path=null"], 2, &["split.save_path"]);
    refused(&[], 1, &["split_data"]);
    place.ok("split_data", &SMALL);
    refused(
        &["fed_avg.fraction=0"],
        2,
        &["fed_avg.fraction", "greater than 0"],
    );
    refused(&["fed_avg.fractoin=1"], 2, &["fed_avg.fraction"]);
    refused(&["fed_avg.optimizer.lr=1e30"], 1, &["node", "round"]);
    refused(&["dataset.max_train=150"], 1, &["split.json"]);
    place.ok("fed_avg", &with(&SMALL, &["overwrite=true"]));
    refused(&[], 2, &["overwrite=true"]);
    let before = hash::file(&place.path(FILES[0])).unwrap();
    // A model that does not take the images is found before the earlier run is replaced.
    let others = TINY.iter().filter(|option| !option.starts_with("model"));
    let others: Vec<&str> = others.chain(&SMALL).copied().collect();
    let wide = [
        "overwrite=true",
        "model=resnet_small",
        "model.width=1000000",
    ];
    let (code, _, errors) = place.run_with("fed_avg", &others, &wide);
    assert_eq!(code, 2, "{errors}");
    says(&errors, &["model.width"]);
    refused(&[], 2, &["holds a finished run"]);
    place.ok("fed_avg", &with(&SMALL, &["resume=true"]));
    assert_eq!(before, hash::file(&place.path(FILES[0])).unwrap());
}
