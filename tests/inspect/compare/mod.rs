//! `compare`: accuracy against bytes of every method, against the metrics files and the formulas.

mod grounds;
mod vouched;

use crate::common::Place;
use crate::{SEEDS, copy, data, inspect, line, metrics, percent, student};
use fed_distill::artifact::{json, tensors};
use serde_json::Value;
use std::sync::OnceLock;

const DISJOINT: &str = "split.unif_percentage=0";
const ROUNDS: u64 = 3;
const NODES: u64 = 2;

/// The experiment with the baselines beside its students. No test changes it.
fn methods() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = copy();
        let fed_avg = [
            DISJOINT,
            "fed_avg.save_folder=fed/avg",
            "fed_avg.rounds=3",
            "fed_avg.batch_size=32",
            "fed_avg.augment.crop=1",
        ];
        place.ok("fed_avg", &fed_avg);
        let adam = [
            "+fed_avg=adam",
            "fed_avg.save_folder=fed/adam",
            "fed_avg.eval_every=2",
        ];
        place.ok("fed_avg", &[&fed_avg[..], &adam].concat());
        let sgd = [
            "distributed_sgd.method=all_reduce",
            "distributed_sgd.save_folder=sgd",
        ];
        let md = [
            DISJOINT,
            "fed_md.save_folder=md",
            "fed_md.public={kind: digits, size: 8, max_train: 50}",
            "fed_md.rounds=2",
            "fed_md.public_epochs=1",
            "fed_md.private_epochs=1",
            "fed_md.augment.crop=1",
        ];
        place.ok("fed_md", &md);
        place.ok(
            "distributed_sgd",
            &[&sgd[..], &["distributed_sgd.epochs=1"]].concat(),
        );
        place
    })
}

fn compare(place: &Place, arguments: &[&str]) -> (i32, String, String) {
    place.run_with("inspect", &[], &[&["compare"], arguments].concat())
}

fn table(place: &Place, arguments: &[&str]) -> String {
    let (code, text, errors) = compare(place, arguments);
    assert_eq!(code, 0, "{errors}");
    text
}

fn compared(place: &Place, arguments: &[&str]) -> Value {
    serde_json::from_str(&table(place, &[arguments, &["--json"]].concat())).unwrap()
}

fn read(place: &Place, file: &str) -> Value {
    json::read(&place.path(file)).unwrap()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no count"))
}

/// The only method of that name.
fn method<'a>(data: &'a Value, name: &str) -> &'a Value {
    let all = data["methods"].as_array().unwrap();
    let found: Vec<_> = all
        .iter()
        .filter(|method| method["method"] == name)
        .collect();
    assert_eq!(found.len(), 1, "{name} in {data}");
    found[0]
}

/// With what their teachers give without a student: an average and an ensemble.
#[test]
fn students_are_compared_with_teachers() {
    let one = inspect(&["compare", "students/1"]);
    let comparison = &metrics(1)["comparison"];
    let bytes: u64 = comparison["upload_bytes"]
        .as_array()
        .unwrap()
        .iter()
        .map(number)
        .sum();
    assert_eq!(
        line(&one, "student  "),
        [
            "student",
            &format!("{} %", percent(&comparison["student"])),
            &bytes.to_string()
        ]
    );
    let all = inspect(&["compare", "students"]);
    for seed in SEEDS {
        let cells = line(&all, &format!("students/{seed}"));
        let comparison = &metrics(seed)["comparison"];
        let wanted = ["teachers_mean", "ensemble", "one_shot_average", "student"]
            .map(|key| percent(&comparison[key]));
        assert!(
            wanted.iter().all(|cell| cells.contains(cell)),
            "{wanted:?} in {cells:?}"
        );
    }
    let two = data(&["compare", "students/1", "students/2"]);
    assert_eq!(two["students"].as_array().unwrap().len(), 2);
    // They have their teachers in common.
    let names: Vec<_> = two["methods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|method| &method["method"])
        .collect();
    assert_eq!(
        names,
        [
            "one-shot student",
            "one-shot average",
            "teachers' ensemble (label_share)",
            "one-shot student"
        ]
    );
    assert!(student(1).join("manifest.json").exists());
}

/// With their label counts.
#[test]
fn one_shot_methods_send_teachers_once() {
    let place = methods();
    let found = compared(place, &["students/1", "fed/avg"]);
    let split = read(place, "split.json");
    let model = number(&read(place, "fed/avg/metrics.json")["model_bytes"]);
    let mut sent = 0;
    for node in 0..NODES {
        let path = place.path(&format!("teachers/model_teacher{node}.safetensors"));
        let file = std::fs::read(&path).unwrap();
        let header = u64::from_le_bytes(file[..8].try_into().unwrap());
        // P values a node; the rest is safetensors' framing, which holds the label counts.
        assert_eq!(file.len() as u64, 8 + header + model);
        let card: Value =
            serde_json::from_str(&tensors::metadata(&path).unwrap()["fed_distill"]).unwrap();
        let images: u64 = card["label_counts"]
            .as_array()
            .unwrap()
            .iter()
            .map(number)
            .sum();
        let dealt = split[format!("teacher{node}")]["train"]
            .as_array()
            .unwrap()
            .len();
        assert_eq!(images, dealt as u64);
        sent += file.len() as u64;
    }
    let ensemble = "teachers' ensemble (label_share)";
    for name in ["one-shot student", "one-shot average", ensemble] {
        let method = method(&found, name);
        assert_eq!(
            (&method["upload_bytes"], &method["download_bytes"]),
            (&sent.into(), &0.into())
        );
        assert_eq!(
            (&method["rounds"], &method["nodes"]),
            (&1.into(), &NODES.into())
        );
        assert_eq!(method["points"][0]["bytes"], sent);
    }
}

/// In each round.
#[test]
fn fed_avg_sends_the_model_both_ways() {
    let place = methods();
    let found = compared(place, &["fed/avg", "students/1"]);
    let own = read(place, "fed/avg/metrics.json");
    let method = method(&found, "FedAvg");
    for key in [
        "final_test_accuracy",
        "best_test_accuracy",
        "upload_bytes",
        "download_bytes",
    ] {
        assert_eq!(method[key], own[key], "{key}");
    }
    assert_eq!(
        (&method["rounds"], &method["nodes"]),
        (&ROUNDS.into(), &NODES.into())
    );
    let both = number(&method["upload_bytes"]) + number(&method["download_bytes"]);
    // 2·P·N·R values; names, shapes and reports come on top, which weigh as much as so small a
    // model.
    let values = 2 * number(&own["model_bytes"]) * NODES * ROUNDS;
    let messages = 3 * NODES * ROUNDS;
    assert!(
        both > values && both < values + 8192 * messages,
        "{both} {values}"
    );
    let mut sent = 0;
    for (round, point) in own["rounds"]
        .as_array()
        .unwrap()
        .iter()
        .zip(method["points"].as_array().unwrap())
    {
        sent += number(&round["upload_bytes"]) + number(&round["download_bytes"]);
        assert_eq!(
            (&point["bytes"], &point["round"]),
            (&sent.into(), &round["round"])
        );
        assert_eq!(point["test_accuracy"], round["test_accuracy"]);
    }
    assert_eq!(sent, both);
}

/// Of the table and of the plot.
#[test]
fn every_method_is_a_line() {
    let place = methods();
    let text = table(place, &["students/1", "fed", "--out", "all.svg"]);
    let found = compared(place, &["students/1", "fed", "--out", "all.png"]);
    assert_eq!(found["one_split"], true);
    let kb = |value: &Value| format!("{:.1} kB", number(value) as f64 / 1e3);
    let svg = std::fs::read_to_string(place.path("all.svg")).unwrap();
    for method in found["methods"].as_array().unwrap() {
        let name = method["method"].as_str().unwrap();
        let cells = line(&text, name);
        assert_eq!(cells[2], percent(&method["final_test_accuracy"]), "{text}");
        assert_eq!(cells[6], kb(&method["upload_bytes"]), "{text}");
        assert!(svg.contains(&format!(">{name}<")), "{name} in\n{svg}");
    }
    assert!(!text.contains("  split"), "all are on one: {text}");
    // Rounds without an evaluation count their bytes all the same.
    let adam = method(&found, "FedAdam");
    let points = adam["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[0]["round"]), (2, &2.into()));
    let all = number(&adam["upload_bytes"]) + number(&adam["download_bytes"]);
    assert_eq!(points[1]["bytes"], all);
    assert!(place.path("all.png").exists());
    assert!(text.trim_end().ends_with("plot: all.svg"), "{text}");
}

/// Each is listed with the settings in which it differs.
#[test]
fn fed_avg_runs_are_told_apart() {
    let place = copy();
    let common = [DISJOINT, "fed_avg.rounds=1", "fed_avg.augment.crop=1"];
    let kinds: [&[&str]; 3] = [
        &[
            "fed_avg.save_folder=runs/a",
            "fed_avg.epochs=2",
            "fed_avg.batch_size=null",
        ],
        &[
            "fed_avg.save_folder=runs/b",
            "+fed_avg=prox",
            "fed_avg.statistics=local",
        ],
        &[
            "fed_avg.save_folder=runs/c",
            "+fed_avg=adam",
            "fed_avg.proximal=0.5",
        ],
    ];
    for kind in kinds {
        place.ok("fed_avg", &[&common[..], kind].concat());
    }
    let (_, text, _) = place.run_with("inspect", &[], &["runs", "runs"]);
    assert!(
        text.contains("1 round (C 1.0, E 2, B all), lr 0.1, server sgd 1.0 "),
        "{text}"
    );
    let prox =
        "1 round (C 1.0, E 1, B 64), lr 0.1, server sgd 1.0, proximal 0.01, local statistics";
    assert!(text.contains(prox), "{text}");
    let text = table(&place, &["runs"]);
    assert!(text.contains("FedAdam with a proximal term"), "{text}");
}

#[test]
fn without_a_place_the_plot_goes_where_the_runs_are() {
    let place = copy();
    let text = table(&place, &["students/1", "students/3"]);
    assert!(
        text.contains("plot: students/inspect/compare.png"),
        "{text}"
    );
    for kind in ["svg", "png"] {
        assert!(
            place
                .path(&format!("students/inspect/compare.{kind}"))
                .exists()
        );
    }
    let svg = std::fs::read_to_string(place.path("students/inspect/compare.svg")).unwrap();
    assert!(svg.contains("one-shot student: 3"), "{svg}");
    // `METHOD/student` is told as METHOD.
    for (number, method) in [("1", "dense"), ("3", "feddf")] {
        let (from, to) = (format!("students/{number}"), format!("{method}/student"));
        std::fs::create_dir(place.path(method)).unwrap();
        std::fs::rename(place.path(&from), place.path(&to)).unwrap();
    }
    table(
        &place,
        &["dense/student", "feddf/student", "--out", "both.svg"],
    );
    let svg = std::fs::read_to_string(place.path("both.svg")).unwrap();
    assert!(
        svg.contains("one-shot student: dense<") && svg.contains("one-shot student: feddf<"),
        "{svg}"
    );
}

/// Its first accuracy is measured before anything is sent.
#[test]
fn fed_md_sends_scores() {
    let place = methods();
    let found = compared(place, &["students/1", "md"]);
    let (ours, own) = (method(&found, "FedMD"), read(place, "md/metrics.json"));
    for key in [
        "final_test_accuracy",
        "best_test_accuracy",
        "upload_bytes",
        "download_bytes",
    ] {
        assert_eq!(ours[key], own[key], "{key}");
    }
    assert_eq!(
        (&ours["rounds"], &ours["nodes"]),
        (&2.into(), &NODES.into())
    );
    // Round 0, transfer learning, sends reports alone; it is listed, and not drawn.
    let points = ours["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[0]["round"]), (3, &0.into()));
    table(place, &["md", "--out", "md.svg"]);
    let svg = std::fs::read_to_string(place.path("md.svg")).unwrap();
    assert_eq!(svg.matches("<circle").count(), 2, "a mark a round: {svg}");
    let both = number(&ours["upload_bytes"]) + number(&ours["download_bytes"]);
    assert_eq!(points[2]["bytes"], both);
    assert!(table(place, &["students/1", "md"]).contains("mean over the nodes' own models"));
}
