//! Runs of one split, of none, of others.

use super::{compare, compared, method, methods, number, read, table};
use crate::{copy, line};
use serde_json::Value;

#[test]
fn distributed_sgd_has_a_point_and_no_split() {
    let place = methods();
    let text = table(place, &["students/1", "sgd", "--out", "sgd.svg"]);
    let found = compared(place, &["students/1", "sgd", "--out", "sgd.png"]);
    assert_eq!(found["one_split"], false);
    let method = method(&found, "SGD, all reduce");
    let own = read(place, "sgd/metrics.json");
    let sum: u64 = own["traffic"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| number(&part["bytes"]))
        .sum();
    assert_eq!(
        number(&method["upload_bytes"]) + number(&method["download_bytes"]),
        sum
    );
    assert_eq!(
        (&method["rounds"], &method["split"]),
        (&own["steps"], &Value::Null)
    );
    assert_eq!(
        line(&text, "SGD, all reduce").last().unwrap(),
        "–",
        "{text}"
    );
    assert!(place.path("sgd.svg").exists());
    let twice = table(
        place,
        &[
            "students/1",
            "./students/../students/1",
            "sgd",
            "--out",
            "sgd.svg",
        ],
    );
    assert_eq!(text, twice);
}

/// One teacher on all images.
#[test]
fn a_student_of_no_split_is_not_drawn_beside_others() {
    let place = copy();
    let whole = [
        "split.save_path=null",
        "teacher.save_folder=whole",
        "initial.save_path=whole.safetensors",
        "student.save_folder=whole_student",
    ];
    for stage in ["train_teachers", "generate_initial", "train_student"] {
        place.ok(stage, &whole);
    }
    let text = table(&place, &["whole_student", "students/1"]);
    assert!(text.contains("no plot: the runs are on 2 splits"), "{text}");
    place.ok(
        "fed_avg",
        &[
            "fed_avg.rounds=1",
            "fed_avg.augment.crop=1",
            "fed_avg.save_folder=fed",
        ],
    );
    assert!(table(&place, &["students/1", "fed"]).contains("plot: "));
    let text = table(&place, &["whole_student", "fed"]);
    assert!(text.contains("no plot: the runs are on 2 splits"), "{text}");
    assert_eq!(
        line(&text, "one-shot student").last().unwrap(),
        "–",
        "{text}"
    );
}

/// Runs of other splits and datasets are marked in the table.
#[test]
fn other_splits_are_never_drawn_together() {
    let place = copy();
    let other = [
        "split.save_path=other.json",
        "fed_avg.rounds=1",
        "fed_avg.augment.crop=1",
    ];
    place.ok("split_data", &other);
    place.ok(
        "fed_avg",
        &[&other[..], &["fed_avg.save_folder=fed"]].concat(),
    );
    let text = table(&place, &["students/1", "fed"]);
    assert!(text.contains("no plot: the runs are on 2 splits"), "{text}");
    let (ours, theirs) = (line(&text, "one-shot student"), line(&text, "FedAvg"));
    assert_eq!(
        ours[ours.len() - 2],
        theirs[theirs.len() - 2],
        "one dataset: {text}"
    );
    assert_ne!(ours.last(), theirs.last(), "{text}");
    let (code, _, errors) = compare(&place, &["students/1", "fed", "--out", "both.png"]);
    assert!(code == 1 && errors.contains("on 2 splits"), "{errors}");
    assert!(!place.path("both.png").exists());
    let small = [
        "split.save_path=small.json",
        "dataset.max_train=100",
        "fed_avg.rounds=1",
        "fed_avg.augment.crop=1",
    ];
    place.ok("split_data", &small);
    place.ok(
        "fed_avg",
        &[&small[..], &["fed_avg.save_folder=small"]].concat(),
    );
    let text = table(&place, &["students/1", "small"]);
    assert!(
        text.contains("no plot: the runs are on 2 datasets"),
        "{text}"
    );
}
