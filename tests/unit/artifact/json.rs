//! JSON files: no NaN gets in, and a bad file is named with line and column.

use fed_distill::artifact::json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Metrics {
    name: String,
    epochs: Vec<Epoch>,
    by_teacher: BTreeMap<u32, Option<f32>>,
    kind: Kind,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Epoch {
    loss: f64,
    range: (f64, f64),
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Plain,
    Scaled(f64),
    Both(f64, f64),
    Named {
        share: f64,
    },
}

fn good() -> Metrics {
    Metrics {
        name: "a \"quoted\" name".into(),
        epochs: vec![
            Epoch {
                loss: 0.1 + 0.2,
                range: (f64::MIN_POSITIVE, f64::MAX),
            },
            Epoch {
                loss: -0.0,
                range: (1e-300, 3.0),
            },
        ],
        by_teacher: BTreeMap::from([(0, Some(0.1)), (7, None)]),
        kind: Kind::Named { share: 0.5 },
    }
}

#[test]
fn values_come_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.json");
    for kind in [
        Kind::Plain,
        Kind::Scaled(1.0 / 3.0),
        Kind::Both(1.0, 2.0),
        Kind::Named { share: 0.5 },
    ] {
        let value = Metrics { kind, ..good() };
        json::write(&path, &value).unwrap();
        assert_eq!(json::read::<Metrics>(&path).unwrap(), value);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.ends_with("}\n") && text.contains("\n  \"name\""),
        "{text}"
    );
}

#[test]
fn nan_is_refused_by_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.json");
    json::write(&path, &good()).unwrap();
    let refused = |change: &dyn Fn(&mut Metrics), place: &str| {
        let mut value = good();
        change(&mut value);
        let text = json::write(&path, &value).unwrap_err().to_string();
        assert!(text.contains(&format!("`{place}`")), "{text}");
        assert!(text.contains("metrics.json"), "{text}");
        assert!(json::value(&value).unwrap_err().to_string().contains(place));
        assert_eq!(
            json::read::<Metrics>(&path).unwrap(),
            good(),
            "what was there stays"
        );
    };
    refused(&|value| value.epochs[1].loss = f64::NAN, "epochs[1].loss");
    refused(
        &|value| value.epochs[0].range.1 = f64::INFINITY,
        "epochs[0].range[1]",
    );
    refused(
        &|value| value.by_teacher = BTreeMap::from([(3, None), (7, Some(f32::NEG_INFINITY))]),
        "by_teacher.7",
    );
    refused(&|value| value.kind = Kind::Scaled(f64::NAN), "kind.scaled");
    refused(
        &|value| value.kind = Kind::Both(0.0, f64::NAN),
        "kind.both[1]",
    );
    refused(
        &|value| value.kind = Kind::Named { share: f64::NAN },
        "kind.named.share",
    );
}

/// The error has the right place after values of every kind.
#[test]
fn faults_after_other_values_are_located() {
    let value = (
        Kind::Both(0.0, 1.0),
        Kind::Named { share: 0.5 },
        Kind::Scaled(1.0),
        good(),
        f64::NAN,
    );
    let text = json::value(&value).unwrap_err().to_string();
    assert!(text.contains("`[4]`"), "{text}");
}

#[test]
fn a_bad_file_is_named_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.json");
    let refusal = |text: &str| {
        std::fs::write(&path, text).unwrap();
        json::read::<Epoch>(&path).unwrap_err().to_string()
    };
    let text = refusal("{\n  \"loss\": \"low\"}");
    assert!(
        text.contains("bad.json:2:15") && text.contains("found: invalid type: string \"low\""),
        "{text}"
    );
    assert!(text.contains("expected: f64"), "{text}");
    let text = refusal("{\"loss\": NaN}");
    assert!(
        text.contains("is not valid JSON") && text.contains("bad.json:1:"),
        "{text}"
    );
    let text = refusal("{\"loss\": 1");
    assert!(text.contains("ends too early"), "{text}");
    std::fs::remove_file(&path).unwrap();
    let text = json::read::<Epoch>(&path).unwrap_err().to_string();
    assert!(
        text.contains("cannot read") && text.contains("bad.json"),
        "{text}"
    );
}

#[test]
fn differences_are_leaves_by_dotted_key() {
    let old =
        serde_json::json!({"a": 1, "b": {"c": [1, 2], "d": null, "same": 0}, "gone": {"x": 1}});
    let new = serde_json::json!({"a": 1, "b": {"c": [2, 1], "same": 0, "d": false}, "new": {}});
    let found = json::differences(&old, &new);
    let shown: Vec<String> = found
        .iter()
        .map(|(key, old, new)| {
            let text = |value: &Option<&serde_json::Value>| {
                value.map_or("missing".to_owned(), ToString::to_string)
            };
            format!("{key}: {} then {}", text(old), text(new))
        })
        .collect();
    let expected = [
        "b.c: [1,2] then [2,1]",
        "b.d: null then false",
        "gone.x: 1 then missing",
        "new: missing then {}",
    ];
    assert_eq!(shown, expected);
    assert!(json::differences(&old, &old).is_empty());
}

#[test]
fn leaves_are_found_again_by_their_keys() {
    let document = serde_json::json!({"a": {"b": [1, 2], "c": {}, "d": {"e": null}}, "f": "g"});
    let leaves = json::leaves(&document);
    let keys: Vec<&str> = leaves.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["a.b", "a.c", "a.d.e", "f"]);
    for (key, value) in leaves {
        assert_eq!(json::at(&document, &key), value);
    }
    assert_eq!(*json::at(&document, "a.b.c"), serde_json::Value::Null);
    assert!(json::leaves(&serde_json::json!({})).is_empty());
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("split.json");
    std::fs::write(&path, "\u{feff}{\"a\": 1}").unwrap();
    let value: serde_json::Value = fed_distill::artifact::json::read(&path).unwrap();
    assert_eq!(value["a"], 1);
}
