//! FedMD.

use super::support::*;
use crate::common::Place;
use fed_distill::artifact::{hash, tensors};
use serde_json::Value;

pub const SMALL: [&str; 11] = [
    "split.num_nodes=4",
    "fed_md.save_folder=fed",
    "fed_md.rounds=2",
    "fed_md.public_samples=20",
    "fed_md.public_epochs=1",
    "fed_md.private_epochs=1",
    "fed_md.revisit_epochs=1",
    "fed_md.batch_size=16",
    "fed_md.augment.crop=1",
    "fed_md.optimizer.lr=0.01",
    "fed_md.models=[{kind: resnet18, width: 4, blocks: [1]}, linear]",
];

pub const FILES: [&str; 5] = [
    "fed/model_node0.safetensors",
    "fed/model_node1.safetensors",
    "fed/model_node2.safetensors",
    "fed/metrics.jsonl",
    "fed/metrics.json",
];

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn rounds_leave_models_metrics_and_bytes() {
    let place = Place::new();
    place.ok("split_data", &SMALL);
    let table = place.ok("fed_md", &SMALL);
    let clients = ["resnet18", "linear", "mean over 3 clients", "everyone's"];
    says(&table, &["round", "public, mean", "test before"]);
    says(
        &table,
        &["test before: after transfer learning, before the first round"],
    );
    says(&table, &clients);
    for (node, kind) in ["resnet18", "linear", "resnet18"].into_iter().enumerate() {
        let (_, metadata) = tensors::read_state(&place.path(FILES[node])).unwrap();
        let card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
        assert_eq!(card["model"]["model"]["kind"], kind);
        assert_eq!(images(&metadata), 50);
    }
    // Transfer learning and two rounds.
    let rounds = lines(&place);
    assert_eq!(rounds.len(), 3);
    let mut sums = (0, 0);
    for (index, round) in rounds.iter().enumerate() {
        assert_eq!(
            (&round["stage"], &round["round"]),
            (&Value::from("fed_md"), &Value::from(index))
        );
        let nodes = round["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        for key in [
            "local_accuracy",
            "public_accuracy",
            "own_test_accuracy",
            "test_accuracy",
            "train_loss",
        ] {
            let mean = nodes.iter().map(|node| number(&node[key])).sum::<f64>() / 3.0;
            assert!(
                (mean - number(&round[key])).abs() < 1e-12,
                "{key} in {round}"
            );
        }
        assert_eq!(round["digest_loss"].is_null(), index == 0);
        let sum = bytes(round, &|part| {
            let values = match (
                part["kind"].as_str().unwrap(),
                part["direction"].as_str().unwrap(),
            ) {
                ("scores", "upload") | ("consensus", "download") => 20 * 10 * 4,
                ("report", "upload") => 64,
                other => panic!("{other:?}"),
            };
            assert_eq!(part["values"], values);
        });
        sums = (sums.0 + sum.0, sums.1 + sum.1);
    }
    let metrics = json(&place, "fed/metrics.json");
    assert_eq!(
        (&metrics["upload_bytes"], &metrics["download_bytes"]),
        (&Value::from(sums.0), &Value::from(sums.1))
    );
    assert_eq!(metrics["final_test_accuracy"], rounds[2]["test_accuracy"]);
    assert_eq!(
        (&metrics["public_images"], &metrics["public_bytes"]),
        (&Value::from(50), &Value::from(50 * 64))
    );
    assert_eq!(metrics["clients"][1]["parameters"], 650);
    let manifest = json(&place, "fed/manifest.json");
    assert_eq!(
        (&manifest["stage"], &manifest["status"]),
        (&Value::from("fed_md"), &Value::from("done"))
    );
    let (code, runs, errors) = place.run_with("inspect", &["runs", "."], &[]);
    assert!(
        code == 0 && runs.contains("2 rounds of up to 20 public images"),
        "{runs}{errors}"
    );
}

#[test]
fn every_option_counts() {
    let place = Place::new();
    place.ok("split_data", &SMALL);
    let mut seen = std::collections::BTreeSet::new();
    for options in [
        &[][..],
        &["fed_md.public_node=2"],
        &["teacher.num_teachers=2"],
        &["fed_md.public={kind: digits, size: 8, max_train: 60}"],
        &["fed_md.public_samples=null"],
        &["fed_md.models=null"],
        &[
            "+fed_md=mixed",
            "~fed_md.models",
            "fed_md.models=[linear, lenet5]",
        ],
        &["fed_md.weights=[1, 2, 3]"],
        &["fed_md.shared_initialisation=true"],
        &["fed_md.public_epochs=0"],
        &["fed_md.private_epochs=2"],
        &["fed_md.digest_epochs=2"],
        &["fed_md.revisit_epochs=0"],
        &["fed_md.digest_batch_size=5"],
        &["fed_md.digest_loss=squared"],
        &["fed_md.augment.flip=false"],
    ] {
        place.ok(
            "fed_md",
            &with(
                &SMALL,
                &[options, &["overwrite=true", "fed_md.rounds=1"]].concat(),
            ),
        );
        // Node 0 is a client in all of them.
        assert!(
            seen.insert(hash::file(&place.path(FILES[0])).unwrap().1),
            "{options:?}"
        );
    }
}

#[test]
fn architecture_by_name_or_by_keys() {
    let place = Place::new();
    let models = |list: &str| {
        let list = format!("fed_md.models={list}");
        let (code, out, errors) = place.run_with("fed_md", &["--cfg", "job", &list], &[]);
        assert_eq!(code, 0, "{errors}");
        let keeps = |line: &&str| !line.contains("overrides");
        out.lines().filter(keeps).collect::<Vec<_>>().join("\n")
    };
    let named = models("[resnet_small, lenet5]");
    assert_eq!(
        named,
        models("[{kind: resnet18, width: 16, blocks: [1, 1, 1]}, {kind: lenet5}]")
    );
    assert_ne!(named, models("[lenet5, resnet_small]"));
    for (list, words) in [
        (
            "[resnet_smal]",
            &["`model` has no option `resnet_smal`", "resnet_small"][..],
        ),
        ("[{kind: lenet}]", &["fed_md.models", "lenet5"]),
        ("[{knid: lenet5}]", &["fed_md.models", "knid"]),
        ("[]", &["fed_md.models", "must name"]),
        ("lenet5", &["fed_md.models", "a list"]),
    ] {
        let errors = place.fails(
            "fed_md",
            &with(&SMALL, &[&format!("fed_md.models={list}")]),
            2,
        );
        says(&errors, words);
    }
}

/// The same run on one rank and on two.
#[test]
fn ranks_change_no_byte() {
    let (alone, ranks) = (Place::new(), Place::new());
    for place in [&alone, &ranks] {
        place.ok("split_data", &SMALL);
    }
    let table = alone.ok("fed_md", &SMALL);
    assert_eq!(
        ranks.ok("fed_md", &with(&SMALL, &["fed_md.ranks=2"])),
        table
    );
    same(&alone, &ranks, &FILES, "two ranks");
    // How many there are is no part of what a finished run is of.
    let again = with(&SMALL, &["fed_md.ranks=3", "resume=true"]);
    assert!(ranks.ok("fed_md", &again).is_empty());
}

fn calm(options: &[&str]) -> Place {
    let place = Place::new();
    place.ok("split_data", options);
    place.ok("fed_md", options);
    place
}

/// Interrupted or killed between rounds, it resumes, on as many ranks as before or others.
#[test]
fn a_stopped_run_ends_as_one_that_was_not() {
    let options = with(&SMALL, &["fed_md.rounds=15"]);
    let calm = calm(&options);
    for (signal, before, after) in [
        (libc::SIGINT, "fed_md.ranks=null", "fed_md.ranks=null"),
        (libc::SIGINT, "fed_md.ranks=3", "fed_md.ranks=2"),
        (libc::SIGKILL, "fed_md.ranks=2", "fed_md.ranks=4"),
    ] {
        let stop = Stop {
            signal,
            file: "fed/metrics.jsonl",
            bytes: 4000,
            caught: |place| (1..16).contains(&lines(place).len()),
        };
        let stopped = stop.stage("fed_md", &with(&options, &["checkpoint.every=0", before]));
        stopped.ok("fed_md", &with(&options, &["resume=true", after]));
        same(&calm, &stopped, &FILES, &format!("{before}, then {after}"));
    }
}

/// Two ranks, and the first has two clients: it is stopped after one of them.
#[test]
fn stopped_transfer_learning_resumes() {
    let options = with(&SMALL, &["fed_md.private_epochs=100", "fed_md.rounds=1"]);
    let calm = calm(&options);
    const SAVED: &str = "fed/checkpoint/training.safetensors";
    for (signal, after) in [
        (libc::SIGINT, "fed_md.ranks=1"),
        (libc::SIGKILL, "fed_md.ranks=3"),
    ] {
        let stop = Stop {
            signal,
            file: SAVED,
            bytes: 1,
            caught: |place| {
                let (saved, _) = tensors::read_state(&place.path(SAVED)).unwrap();
                lines(place).is_empty() && saved.get("report.2").is_none()
            },
        };
        let stopped = stop.stage(
            "fed_md",
            &with(&options, &["checkpoint.every=0", "fed_md.ranks=2"]),
        );
        let (saved, _) = tensors::read_state(&stopped.path(SAVED)).unwrap();
        assert!(saved.get("report.0").is_some());
        stopped.ok("fed_md", &with(&options, &["resume=true", after]));
        same(&calm, &stopped, &FILES, after);
    }
}
