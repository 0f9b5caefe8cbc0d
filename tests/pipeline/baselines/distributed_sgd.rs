//! The `distributed_sgd` binary on tiny data: three methods with the same losses, or the same
//! bytes, an interrupted run that ends as one that was not, and what it refuses.

use crate::common::stop::{caught, stop};
use crate::common::{Place, signals};
use std::process::{Command, Stdio};

/// Digits, few of them, on a LeNet-5.
const DIGITS: [&str; 12] = [
    "dataset=digits",
    "dataset.size=16",
    "dataset.max_train=130",
    "dataset.max_test=50",
    "model=lenet5_unpadded",
    "distributed_sgd.save_folder=out",
    "distributed_sgd.batch_size=25",
    "distributed_sgd.report_every=2",
    "distributed_sgd.ranks=3",
    "overwrite=true",
    "threads=1",
    "device=cpu",
];

#[test]
fn three_methods_have_the_same_losses() {
    let place = Place::new();
    let mut losses = Vec::new();
    for method in ["centralised", "all_reduce", "parameter_server"] {
        let (code, table, errors) = place.run_with(
            "distributed_sgd",
            &DIGITS,
            &[&format!("distributed_sgd.method={method}")],
        );
        assert_eq!(code, 0, "{errors}");
        assert!(
            table.contains("mean loss") && table.contains("test accuracy"),
            "{table}"
        );
        assert_eq!(
            table.contains("of gradient, upload"),
            method != "centralised",
            "{table}"
        );
        let text = std::fs::read_to_string(place.path("out/metrics.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        // 130 images: batches of 25, 25, 25, 25, 25 and 5, thrice.
        let steps: Vec<_> = lines
            .iter()
            .map(|line| line["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [2, 4, 6, 8, 10, 12, 14, 16, 18]);
        losses.push(
            lines
                .iter()
                .map(|line| line["loss"].as_f64().unwrap())
                .collect::<Vec<_>>(),
        );
    }
    for others in &losses[1..] {
        for (ours, wanted) in others.iter().zip(&losses[0]) {
            assert!((ours - wanted).abs() < 1e-5 * wanted, "{losses:?}");
        }
    }
    let (code, _, errors) =
        place.run_with("distributed_sgd", &DIGITS, &["distributed_sgd.ranks=0"]);
    assert_eq!(code, 2, "{errors}");
    let (code, _, errors) = place.run_with("distributed_sgd", &DIGITS, &["dataset.size=8"]);
    assert!(
        code == 2 && errors.contains("model.kind=lenet5"),
        "{errors}"
    );
}

/// On one, two and four ranks.
#[test]
fn four_parts_same_bytes_on_any_ranks() {
    let place = Place::new();
    let written = |method: &str, ranks: &str| {
        let own = [
            method,
            ranks,
            "distributed_sgd.parts=4",
            "distributed_sgd.batch_size=30",
        ];
        let (code, _, errors) = place.run_with("distributed_sgd", &DIGITS, &own);
        assert_eq!(code, 0, "{errors}");
        ["out/metrics.jsonl", "out/model.safetensors"]
            .map(|file| std::fs::read(place.path(file)).unwrap())
    };
    let wanted = written(
        "distributed_sgd.method=centralised",
        "distributed_sgd.ranks=1",
    );
    for method in [
        "distributed_sgd.method=all_reduce",
        "distributed_sgd.method=parameter_server",
    ] {
        for ranks in ["distributed_sgd.ranks=2", "distributed_sgd.ranks=4"] {
            assert!(written(method, ranks) == wanted, "{method} {ranks}");
        }
    }
}

/// A run of three ranks, interrupted after its first epoch.
fn interrupted(options: &[&str]) -> Option<Place> {
    let place = Place::new();
    let program = assert_cmd::cargo::cargo_bin("distributed_sgd");
    let mut child = signals::heard(&mut Command::new(program))
        .current_dir(place.path("."))
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // A line for every two batches, as they come.
    let lines = || std::fs::read_to_string(place.path("out/metrics.jsonl")).unwrap_or_default();
    let stopped = stop(&mut child, libc::SIGINT, || lines().contains("\"epoch\":1"));
    (stopped && lines().lines().count() < 3 * 40).then_some(place)
}

#[test]
fn an_interrupted_binary_resumes_to_the_same_end() {
    let own: Vec<&str> = DIGITS
        .into_iter()
        .filter(|option| *option != "overwrite=true")
        .collect();
    for method in [
        "distributed_sgd.method=all_reduce",
        "distributed_sgd.method=parameter_server",
    ] {
        let options = [&own[..], &[method, "distributed_sgd.epochs=40"]].concat();
        let calm = Place::new();
        let (code, table, errors) = calm.run_with("distributed_sgd", &options, &[]);
        assert_eq!(code, 0, "{errors}");
        let stopped = caught(|| interrupted(&options));
        let (code, _, errors) = stopped.run_with("distributed_sgd", &options, &[]);
        assert!(code == 2 && errors.contains("resume=true"), "{errors}");
        let fewer: Vec<&str> = options
            .iter()
            .map(|option| option.replace("ranks=3", "ranks=2").leak() as &str)
            .collect();
        let (code, _, errors) = stopped.run_with("distributed_sgd", &fewer, &["resume=true"]);
        assert!(
            code == 2 && errors.contains("distributed_sgd.ranks: 3 then, 2 now"),
            "{errors}"
        );
        let (code, other, errors) = stopped.run_with("distributed_sgd", &options, &["resume=true"]);
        assert_eq!(code, 0, "{errors}");
        assert!(errors.contains("resuming from epoch"), "{errors}");
        assert_eq!(table, other);
        for file in [
            "out/model.safetensors",
            "out/metrics.jsonl",
            "out/metrics.json",
        ] {
            let [ours, theirs] =
                [&calm, &stopped].map(|place| std::fs::read(place.path(file)).unwrap());
            assert!(ours == theirs, "{file}, {method}");
        }
    }
}

/// The last step's loss is finite, the weights that it leaves are not: nothing is saved.
#[test]
fn divergence_in_the_last_step_leaves_no_checkpoint() {
    let place = Place::new();
    let wild = [
        "distributed_sgd.method=centralised",
        "distributed_sgd.ranks=1",
        "distributed_sgd.epochs=1",
        "distributed_sgd.batch_size=130",
        "distributed_sgd.optimizer.lr=1e45",
    ];
    let (code, _, errors) = place.run_with("distributed_sgd", &DIGITS, &wild);
    assert_eq!(code, 1, "{errors}");
    for words in [
        "the weights became NaN or infinite in epoch 1",
        "lower the learning rate (`distributed_sgd.optimizer.lr`)",
    ] {
        assert!(errors.contains(words), "no `{words}` in\n{errors}");
    }
    assert!(!place.path("out/checkpoint/training.safetensors").exists());
}
