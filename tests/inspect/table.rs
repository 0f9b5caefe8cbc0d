//! `table`: the numbers of a paper, against the metrics of each run.

use super::groups::{chain, students};
use crate::common::Place;
use crate::copy;
use fed_distill::artifact::json;
use serde_json::Value;

fn table(place: &Place, arguments: &[&str]) -> (String, String) {
    let (code, out, errors) = place.run_with("inspect", &[], &[&["table"], arguments].concat());
    assert_eq!(code, 0, "{errors}");
    (out, errors)
}

/// An accuracy of the student in `folder`, after its last epoch or without a student.
fn accuracy(folder: &str, key: &str) -> f64 {
    let metrics: Value =
        json::read(&students().path(&format!("{folder}/student/metrics.json"))).unwrap();
    metrics.pointer(key).unwrap().as_f64().unwrap()
}

/// The rows whose name has all of these words.
fn rows<'a>(data: &'a Value, words: &[&str]) -> Vec<&'a Value> {
    let all = data["rows"].as_array().unwrap().iter();
    let has = |row: &&Value| {
        let name = row["method"].as_str().unwrap();
        words.iter().all(|word| name.contains(word))
    };
    all.filter(has).collect()
}

fn cell<'a>(row: &'a Value, data: &str) -> &'a Value {
    let cells = row["cells"].as_array().unwrap().iter();
    let mut found = cells.filter(|cell| cell["data"].as_str().unwrap().contains(data));
    let cell = found.next().unwrap_or_else(|| panic!("{data} in {row}"));
    assert!(found.next().is_none(), "{row}");
    cell
}

/// Two seeds of one setting, one of another split, and one each of other teachers and batches.
#[test]
fn cells_are_means_over_seeds() {
    let (out, _) = table(students(), &[".", "--json"]);
    let data: Value = serde_json::from_str(&out).unwrap();
    let (initial, usual) = ("grad_updates_batch=4", "teacher.epochs=2");
    let found = rows(&data, &["one-shot student", usual, initial]);
    let [row] = found[..] else {
        panic!("{data}");
    };
    let repeated = cell(row, "unif_percentage=0.0");
    let key = "/final_test_accuracy";
    let both = [accuracy("one", key), accuracy("two", key)];
    let close = |value: &Value, wanted: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - wanted).abs() < 1e-9, "{value} {wanted}");
    };
    assert_eq!(repeated["spread"]["n"], 2);
    close(&repeated["spread"]["mean"], (both[0] + both[1]) / 2.0);
    close(
        &repeated["spread"]["std"],
        (both[0] - both[1]).abs() / 2f64.sqrt(),
    );
    close(&repeated["lowest"], both[0].min(both[1]));
    close(&repeated["highest"], both[0].max(both[1]));
    let even = cell(row, "unif_percentage=0.9");
    assert_eq!(
        (&even["spread"]["n"], &even["spread"]["std"]),
        (&1.into(), &Value::Null)
    );
    close(&even["spread"]["mean"], accuracy("even", key));
    assert_eq!(rows(&data, &["one-shot student"]).len(), 3, "{data}");
    // `few` has the teachers of `one`, and so no ensemble of its own.
    let found = rows(&data, &["teachers' ensemble (label_share)", usual]);
    let [row] = found[..] else {
        panic!("{data}");
    };
    let ensemble = cell(row, "unif_percentage=0.0");
    let key = "/comparison/ensemble";
    assert_eq!(ensemble["spread"]["n"], 2);
    close(
        &ensemble["spread"]["mean"],
        (accuracy("one", key) + accuracy("two", key)) / 2.0,
    );
}

#[test]
fn every_format_has_the_same_numbers() {
    let place = students();
    let (csv, _) = table(place, &[".", "--format", "csv"]);
    let mut lines = csv.lines();
    assert_eq!(
        lines.next(),
        Some("method,data,runs,mean,std,lowest,highest,bytes")
    );
    let line = csv
        .lines()
        .find(|line| line.contains("one-shot student") && line.contains(",2,"));
    let numbers: Vec<f64> = line
        .unwrap()
        .rsplit(',')
        .take(6)
        .flat_map(str::parse)
        .collect();
    let [bytes, highest, lowest, std, mean, runs] = numbers[..] else {
        panic!("{csv}");
    };
    assert_eq!((runs, (highest + lowest) / 2.0), (2.0, mean));
    let uploads = students().path("one/teachers/model_teacher0.safetensors");
    assert!(bytes > std::fs::metadata(uploads).unwrap().len() as f64);
    let [mean, std] = [mean, std].map(|share| format!("{:.1}", 100.0 * share));
    for (format, cell) in [
        ("text", format!("{mean} ± {std} (2)")),
        ("markdown", format!("| {mean} ± {std} (2) |")),
        ("latex", format!("& {mean} $\\pm$ {std} (2) &")),
    ] {
        let (text, _) = table(place, &[".", "--format", format]);
        assert!(text.contains(&cell), "{cell} in {text}");
        let key = match format {
            "latex" => r"grad\_updates\_batch",
            _ => "grad_updates_batch",
        };
        assert!(text.contains(key), "{text}");
    }
}

/// Returns a copy of the experiment in which `change` was done to the manifest of a student.
fn changed(change: impl FnOnce(&mut Value)) -> Place {
    let place = copy();
    let path = place.path("students/2/manifest.json");
    let mut manifest: Value = json::read(&path).unwrap();
    change(&mut manifest);
    json::write(&path, &manifest).unwrap();
    place
}

#[test]
fn a_cell_names_its_own_dataset() {
    let place = changed(|manifest| manifest["config"]["dataset"]["size"] = 16.into());
    let (out, _) = table(&place, &["students", "--json"]);
    let data: Value = serde_json::from_str(&out).unwrap();
    assert!(data["dataset"].is_null(), "{data}");
    let found = rows(&data, &["one-shot student"]);
    let [row] = found[..] else {
        panic!("{data}");
    };
    for size in [8, 16] {
        let cell = cell(row, &format!("dataset.size={size}"));
        assert_eq!(cell["dataset"], format!("digits {size}×{size}"));
    }
}

#[test]
fn names_are_escaped_in_latex() {
    let name = r"a~b^c{d}$e\f_g%h#i&j";
    let place = changed(|manifest| {
        let overrides = manifest["overrides"].as_array_mut().unwrap();
        overrides.push(format!("+experiment={name}").into());
    });
    let (text, _) = table(&place, &["students/2", "--format", "latex"]);
    let wanted = concat!(
        r"student, a\textasciitilde{}b\textasciicircum{}c\{d\}\$e\textbackslash{}f",
        r"\_g\%h\#i\&j"
    );
    assert!(text.contains(wanted), "{wanted} in {text}");
}

/// What is not a result of its own is named and left out.
#[test]
fn copies_and_parts_are_left_out() {
    let place = Place::new();
    chain(&place, "one", "one", &[]);
    let again = [
        "split.save_path=one/split.json",
        "teacher.save_folder=one/teachers",
        "initial.save_path=one/initial.safetensors",
        "student.save_folder=again",
    ];
    place.ok("train_student", &again);
    let (text, errors) = table(&place, &["."]);
    assert!(!text.contains("(2)"), "{text}");
    assert!(
        errors.contains("left out: again (the same weights as one/student)"),
        "{errors}"
    );
    let grouped = |place: &Place| {
        let (_, out, errors) = place.run_with("inspect", &[], &["runs", ".", "--group"]);
        (out, errors)
    };
    assert!(grouped(&place).0.contains("train_teachers"));
    std::fs::remove_file(place.path("one/teachers/manifest_teacher1.json")).unwrap();
    let (out, errors) = grouped(&place);
    assert!(!out.contains("train_teachers"), "{out}");
    assert!(
        errors.contains("one/teachers (1 of 2 teachers)"),
        "{errors}"
    );
    let (code, _, errors) = place.run_with("inspect", &[], &["table", "one/teachers"]);
    assert_eq!(code, 1);
    assert!(
        errors.contains("holds no finished student or baseline"),
        "{errors}"
    );
}

/// A sweep over methods gives each job its own name.
#[test]
fn methods_of_a_sweep_have_their_own_names() {
    let place = Place::new();
    let small = [
        "generator.batch_size=16",
        "generator.width=4",
        "generator.steps=2",
    ];
    for stage in ["split_data", "train_teachers"] {
        place.ok(stage, &[]);
    }
    place.ok(
        "generate_initial",
        &[&["+method=dense"], &small[..]].concat(),
    );
    let sweep = [
        "--multirun",
        "+method=dense,dense_co_boosting",
        "student.epochs=1",
    ];
    place.ok("train_student", &[&sweep[..], &small[..]].concat());
    let (text, _) = table(&place, &["."]);
    for name in ["student, dense ", "student, dense_co_boosting "] {
        assert_eq!(text.matches(name).count(), 1, "{name} in {text}");
    }
}

/// Each student has learned weights of its own for the same teachers.
#[test]
fn ensembles_of_learned_weights_are_rows_of_their_own() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &[]);
    }
    let sweep = [
        "--multirun",
        "+method=co_boosting",
        "student.epochs=2,3",
        "student.new_batches_per_epoch=0",
        "generator.batch_size=16",
        "generator.width=4",
        "generator.steps=2",
    ];
    place.ok("train_student", &sweep);
    let (out, _) = table(&place, &[".", "--json"]);
    let data: Value = serde_json::from_str(&out).unwrap();
    let learned = rows(&data, &["ensemble (weighted_logits)", "student.epochs="]);
    assert_eq!(learned.len(), 2, "{data}");
    // Their average depends on the teachers alone.
    assert_eq!(rows(&data, &["one-shot average"]).len(), 1, "{data}");
}

/// A server that was not given the split has the results of the same data.
#[test]
fn a_student_without_the_split_is_in_the_column_of_its_teachers() {
    let place = Place::new();
    chain(&place, "one", "one", &[]);
    let alone = [
        "split.save_path=null",
        "teacher.save_folder=one/teachers",
        "initial.save_path=one/initial.safetensors",
        "student.save_folder=alone",
        "student.seed=9",
    ];
    place.ok("train_student", &alone);
    let (out, _) = table(&place, &[".", "--json"]);
    let data: Value = serde_json::from_str(&out).unwrap();
    let cells = data["rows"].as_array().unwrap().iter();
    let cells = cells.flat_map(|row| row["cells"].as_array().unwrap());
    let mut columns: Vec<&Value> = cells.map(|cell| &cell["data"]).collect();
    columns.dedup();
    assert_eq!(columns.len(), 1, "{data}");
    assert_eq!(rows(&data, &["one-shot student"]).len(), 2, "{data}");
}
