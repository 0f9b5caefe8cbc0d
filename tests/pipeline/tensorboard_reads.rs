//! TensorBoard itself, from PyPI, reads the event files of a run, of one that was killed and
//! resumed among them.

use crate::common::python::python;
use crate::common::stop::{caught, stop};
use crate::common::{Place, TINY};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The lines of a metrics file whose event is `event`.
fn lines(path: &Path, event: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let all = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["event"] == event).collect()
}

/// What TensorBoard should show of a run: tag to (step, value).
fn expected(path: &Path) -> BTreeMap<String, Vec<(i64, f32)>> {
    let mut curves: BTreeMap<String, Vec<(i64, f32)>> = BTreeMap::new();
    for event in ["epoch", "batch", "round"] {
        for line in lines(path, event) {
            let mut add = |tag: String, value: f64| {
                let point = (line["step"].as_i64().unwrap(), value as f32);
                curves.entry(tag).or_default().push(point);
            };
            for (key, value) in line.as_object().unwrap() {
                let place = ["epoch", "step", "batch", "teacher", "round"].contains(&key.as_str());
                if let (false, Some(value)) = (place, value.as_f64()) {
                    add(format!("{event}/{key}"), value);
                }
            }
            for node in line["nodes"].as_array().into_iter().flatten() {
                for key in ["train_accuracy", "own_test_accuracy"] {
                    add(
                        format!("node{}/{key}", node["node"]),
                        node[key].as_f64().unwrap(),
                    );
                }
            }
        }
    }
    curves
}

/// Its curves and pictures.
#[test]
fn tensorboard_shows_every_run() {
    let place = Place::new();
    let options = [
        "student.new_batches_per_epoch=1",
        "student.epochs=3",
        "checkpoint.every=0",
    ];
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &options);
    }
    // Killed in its second epoch, so that the events after the last checkpoint are written twice.
    let second = place.path("student/checkpoint/batch_00003.safetensors");
    caught(|| {
        let _ = std::fs::remove_dir_all(place.path("student"));
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("train_student"))
            .current_dir(place.path("."))
            .args(TINY)
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        stop(&mut child, libc::SIGKILL, || second.exists()).then_some(())
    });
    place.ok("train_student", &[&options[..], &["resume=true"]].concat());
    place.ok("fed_avg", &["fed_avg.save_folder=fed", "fed_avg.rounds=2"]);

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/tensorboard_read.py");
    let output = Command::new(python("tensorboard"))
        .arg(script)
        .arg(place.path("."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = [
        ("fed/tensorboard", "fed/metrics.jsonl"),
        ("initial.tensorboard", "initial.metrics.jsonl"),
        ("student/tensorboard", "student/metrics.jsonl"),
        (
            "teachers/tensorboard_teacher0",
            "teachers/metrics_teacher0.jsonl",
        ),
        (
            "teachers/tensorboard_teacher1",
            "teachers/metrics_teacher1.jsonl",
        ),
    ];
    assert_eq!(seen["server"], serde_json::json!(runs.map(|(run, _)| run)));
    for (run, metrics) in runs {
        let mut found: BTreeMap<String, Vec<(i64, f32)>> =
            serde_json::from_value(seen["files"][run]["scalars"].clone()).unwrap();
        let expected = expected(&place.path(metrics));
        // Seconds are in the events alone.
        let seconds = found.remove("epoch/seconds");
        assert_eq!(
            seconds.is_some(),
            expected.contains_key("epoch/lr"),
            "{run}"
        );
        assert!(
            expected.len() >= 5 && found == expected,
            "{run}\n{found:?}\n{expected:?}"
        );
    }
    let pictures = |run: &str| seen["files"][run]["images"].as_object().unwrap().clone();
    let student = pictures("student/tensorboard");
    assert_eq!(
        student["batch/grid"].as_array().unwrap().len(),
        3,
        "one an epoch"
    );
    for tag in ["dataset", "curves", "confusion"] {
        let [_, width, height, bytes] = &student[tag][0].as_array().unwrap()[..] else {
            panic!("{student:?}");
        };
        let file = place.path(&format!("student/{tag}.png"));
        let (wide, high) = image::image_dimensions(&file).unwrap();
        assert_eq!(
            (width, height),
            (
                &Value::from(wide.to_string()),
                &Value::from(high.to_string())
            )
        );
        assert_eq!(bytes.as_u64(), Some(file.metadata().unwrap().len()));
    }
    assert!(pictures("initial.tensorboard").contains_key("grid"));
}
