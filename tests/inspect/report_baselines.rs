//! `report` of baselines: accuracy by round and bytes, against the metrics files.

use crate::common::Place;
use crate::percent;
use fed_distill::artifact::json;
use roxmltree::{Document, Node, ParsingOptions};
use serde_json::Value;

const MINE: [&str; 3] = [
    "fed_avg.rounds=4",
    "fed_avg.eval_every=2",
    "fed_avg.augment.crop=1",
];

/// The cells of the table's row that begins with `name`.
fn row(section: Node, name: &str) -> Vec<String> {
    let rows = section.descendants().filter(|node| node.has_tag_name("tr"));
    let cells = rows.map(|row| {
        let cells = row.children().filter(|cell| cell.is_element());
        cells
            .map(|cell| cell.text().unwrap_or_default().to_owned())
            .collect()
    });
    let mut found =
        cells.filter(|cells: &Vec<String>| cells.first().is_some_and(|first| first == name));
    found.next().unwrap_or_else(|| panic!("no row `{name}`"))
}

fn kilobytes(bytes: u64) -> String {
    format!("{:.1} kB", bytes as f64 / 1e3)
}

fn sum(parts: &Value, of: impl Fn(&Value) -> Option<u64>) -> u64 {
    parts.as_array().unwrap().iter().filter_map(of).sum()
}

/// Shows accuracy by round and by bytes.
#[test]
fn report_of_baselines() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok(
        "fed_avg",
        &[&MINE[..], &["fed_avg.save_folder=fed/avg"]].concat(),
    );
    let md = [
        "fed_md.save_folder=md",
        "fed_md.public={kind: digits, size: 8, max_train: 50}",
        "fed_md.rounds=2",
        "fed_md.public_epochs=1",
        "fed_md.private_epochs=1",
        "fed_md.augment.crop=1",
    ];
    place.ok("fed_md", &md);
    let sgd = [
        "distributed_sgd.method=all_reduce",
        "distributed_sgd.save_folder=sgd",
    ];
    place.ok(
        "distributed_sgd",
        &[&sgd[..], &["distributed_sgd.epochs=1"]].concat(),
    );
    let (code, _, errors) = place.run_with("inspect", &[], &["report", "."]);
    assert_eq!(code, 0, "{errors}");

    let html = std::fs::read_to_string(place.path("report.html")).unwrap();
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    let doc = Document::parse_with_options(&html, options).unwrap();
    let heading = doc
        .descendants()
        .find(|node| node.has_tag_name("h2") && node.text() == Some("Baselines"));
    let section = heading.unwrap().parent().unwrap();
    let plot = section
        .descendants()
        .find(|node| node.attribute("aria-label") == Some("Baselines on the test set"))
        .unwrap();
    let drawn = |name: &str| {
        plot.descendants()
            .any(|node| node.text().is_some_and(|text| text.trim() == name))
    };
    assert!(drawn("fed/avg") && drawn("md") && drawn("round") && drawn("accuracy (%)"));
    assert!(!drawn("sgd"), "it has no rounds");

    for (name, rounds) in [("fed/avg", "4"), ("md", "2")] {
        let own: Value = json::read(&place.path(name).join("metrics.json")).unwrap();
        let sent = |key: &str| kilobytes(sum(&own["rounds"], |round| round[key].as_u64()));
        let (last, best) = (
            percent(&own["final_test_accuracy"]),
            percent(&own["best_test_accuracy"]),
        );
        let wanted = [
            rounds,
            "–",
            "2",
            &last,
            &best,
            &sent("upload_bytes"),
            &sent("download_bytes"),
        ];
        assert_eq!(row(section, name)[3..10], wanted, "{name}");
    }
    let own: Value = json::read(&place.path("sgd/metrics.json")).unwrap();
    let sent = |direction: &str| {
        kilobytes(sum(&own["traffic"], |part| {
            part["bytes"]
                .as_u64()
                .filter(|_| part["direction"] == direction)
        }))
    };
    let accuracy = percent(&own["test_accuracy"]);
    let steps = own["steps"].to_string();
    let wanted = [
        "–",
        &steps,
        "2",
        &accuracy,
        "–",
        &sent("upload"),
        &sent("download"),
    ];
    assert_eq!(row(section, "sgd")[3..10], wanted);
}
