//! Every tensor file that the stages write opens with Python's own `safetensors`, under exactly
//! PyTorch's names, shapes and types, so that `load_state_dict(strict=True)` takes it.
//! `tests/data/pytorch/make.py` wrote down what PyTorch's networks ask for.

use crate::common::Place;
use crate::common::python::python;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Teachers are ResNet-18 for CIFAR-10 in its published size; the student has bottleneck blocks.
const NETWORKS: &[&str] = &[
    "dataset.channels=3",
    "dataset.max_train=40",
    "model={kind: resnet18, width: 64, blocks: [2, 2, 2, 2]}",
    "teacher.epochs=1",
    "teacher.batch_size=16",
    "deep_inv.batch_size=4",
    "deep_inv.di.grad_updates_batch=1",
    "deep_inv.adi.grad_updates_batch=1",
    "student.model={kind: resnet50, width: 4, blocks: [1, 2]}",
    "student.epochs=1",
    "student.batch_size=4",
    "student.new_batches_per_epoch=1",
];

/// What `tests/python/read.py` finds in the files, by name.
fn opened(place: &Place, names: &[&str]) -> BTreeMap<String, Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read.py");
    let paths = names.iter().map(|name| place.path(name));
    let output = Command::new(python("numpy, safetensors.numpy"))
        .arg(script)
        .args(paths)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{names:?}\n{errors}");
    let read: BTreeMap<PathBuf, Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &&str| (name.to_string(), read[&place.path(name)].clone());
    names.iter().map(of).collect()
}

/// Name, shape and type of every tensor.
fn signature(file: &Value) -> BTreeMap<String, (Vec<i64>, String)> {
    let of = |(name, tensor): (&String, &Value)| {
        let shape = serde_json::from_value(tensor["shape"].clone()).unwrap();
        (
            name.clone(),
            (shape, tensor["dtype"].as_str().unwrap().to_owned()),
        )
    };
    file["tensors"]
        .as_object()
        .unwrap()
        .iter()
        .map(of)
        .collect()
}

/// What PyTorch's `state_dict()` of a network lists.
fn pytorch(network: &str) -> BTreeMap<String, (Vec<i64>, String)> {
    let listed: BTreeMap<String, Vec<(String, Vec<i64>, String)>> =
        serde_json::from_str(include_str!("../data/pytorch/state_dicts.json")).unwrap();
    let entries = listed[network].iter();
    entries
        .map(|(name, shape, kind)| (name.clone(), (shape.clone(), kind.clone())))
        .collect()
}

fn images(count: i64) -> BTreeMap<String, (Vec<i64>, String)> {
    BTreeMap::from([
        ("images".into(), (vec![count, 3, 8, 8], "float32".into())),
        ("labels".into(), (vec![count], "int64".into())),
    ])
}

/// What a file says of itself: safetensors' PyTorch loader wants `format`, the rest is the card.
fn card(file: &Value) -> Value {
    let metadata = file["metadata"].as_object().unwrap();
    let mut keys: Vec<&str> = metadata.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["fed_distill", "format"]);
    assert_eq!(metadata["format"], "pt");
    serde_json::from_str(metadata["fed_distill"].as_str().unwrap()).unwrap()
}

#[test]
fn what_every_stage_writes() {
    let place = Place::new();
    for stage in [
        "split_data",
        "train_teachers",
        "generate_initial",
        "train_student",
    ] {
        place.ok(stage, NETWORKS);
    }
    let files = opened(
        &place,
        &[
            "teachers/model_teacher0.safetensors",
            "teachers/model_teacher1.safetensors",
            "initial.safetensors",
            "student/student.safetensors",
            "student/dataset.safetensors",
        ],
    );
    for (name, file) in &files {
        let tensors = file["tensors"].as_object().unwrap();
        assert!(
            tensors.values().all(|tensor| tensor["finite"] == true),
            "{name}"
        );
    }

    let of_node = |node: usize| &files[&format!("teachers/model_teacher{node}.safetensors")];
    for node in 0..2 {
        assert_eq!(signature(of_node(node)), pytorch("resnet18"));
        // An upload does not tell how many steps its client took.
        assert_eq!(
            of_node(node)["tensors"]["bn1.num_batches_tracked"]["sum"],
            0.0
        );
        let metrics =
            std::fs::read(place.path(&format!("teachers/metrics_teacher{node}.json"))).unwrap();
        let metrics: Value = serde_json::from_slice(&metrics).unwrap();
        assert_eq!(card(of_node(node))["label_counts"], metrics["label_counts"]);
    }
    assert_eq!(
        signature(&files["student/student.safetensors"]),
        pytorch("resnet50_narrow")
    );
    assert_eq!(
        card(&files["student/student.safetensors"])["model"]["model"]["kind"],
        "resnet50"
    );

    let initial = &files["initial.safetensors"];
    let mut expected = images(8);
    expected.insert("teachers".into(), (vec![8], "int64".into()));
    assert_eq!(signature(initial), expected);
    assert_eq!(
        initial["tensors"]["teachers"]["counts"],
        serde_json::json!([4, 4])
    );
    let dataset = &files["student/dataset.safetensors"];
    assert_eq!(signature(dataset), images(12));
    let counts = |file: &Value| -> Vec<u64> {
        let mut counts: Vec<u64> =
            serde_json::from_value(file["tensors"]["labels"]["counts"].clone()).unwrap();
        counts.resize(10, 0);
        counts
    };
    assert_eq!(
        serde_json::json!(counts(dataset)),
        card(dataset)["label_counts"]
    );
    for (before, after) in counts(initial).into_iter().zip(counts(dataset)) {
        assert!(
            before <= after,
            "the student's set begins with the initial batches"
        );
    }
}
