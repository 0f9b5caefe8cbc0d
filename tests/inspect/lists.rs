//! `runs`, `runs --group`, `show`, `diff`: tables against the metrics files themselves.

use crate::common::Place;
use crate::{SEEDS, copy, data, experiment, inspect, line, metrics, percent};
use fed_distill::artifact::{hash, json};
use serde_json::{Value, json};

#[test]
fn every_run_is_listed_with_its_accuracy() {
    let table = inspect(&["runs", "."]);
    let names: Vec<_> = [
        "split",
        "teachers/teacher0",
        "teachers/teacher1",
        "initial",
        "students/1",
    ]
    .to_vec();
    for name in &names {
        assert!(line(&table, name).contains(&"done".to_owned()), "{table}");
    }
    for seed in SEEDS {
        let cells = line(&table, &format!("students/{seed}"));
        let (found, wanted) = (metrics(seed), cells.len());
        assert_eq!(cells[wanted - 2], percent(&found["final_test_accuracy"]));
        assert_eq!(cells[wanted - 1], percent(&found["best_test_accuracy"]));
        assert!(
            cells.contains(&format!("42, {seed}")) && cells.contains(&"digits 8×8".to_owned()),
            "{cells:?}"
        );
        let words: Vec<&str> = cells.iter().flat_map(|cell| cell.split(", ")).collect();
        assert!(words.contains(&"2 epochs"), "{cells:?}");
    }
    let all = data(&["runs", "."]);
    assert_eq!(all.as_array().unwrap().len(), 7);
    assert_eq!(all[0]["run"], "split");
    assert_eq!(
        all[6]["final_test_accuracy"],
        metrics(3)["final_test_accuracy"]
    );
}

/// Writes the manifest of a run that began at a time.
fn write_manifest(place: &Place, folder: &str, stage: &str, started: &str) {
    let manifest = json!({
        "schema_version": 1, "stage": stage, "status": "done", "argv": [], "overrides": [],
        "config": {}, "seeds": {}, "versions": {"fed_distill": "0.1.0", "libtorch": "2.11.0"},
        "device": "cpu", "threads": 1, "started": started, "ended": started, "inputs": [],
        "outputs": [], "facts": {}, "error": null
    });
    std::fs::create_dir(place.path(folder)).unwrap();
    json::write(&place.path(folder).join("manifest.json"), &manifest).unwrap();
}

/// An error that lists some of the runs says how many there are besides.
#[test]
fn a_list_that_is_cut_says_so() {
    let place = Place::new();
    for number in 10..24 {
        let folder = format!("run{number}");
        write_manifest(&place, &folder, "fed_avg", "2025-01-31T12:00:05Z");
    }
    let (code, _, errors) = place.run_with("inspect", &[], &["show", "."]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("run21 and 2 more\n"), "{errors}");
}

/// Times of whole seconds, as manifests of earlier versions have them, leave the order to the
/// stages and then to the paths.
#[test]
fn runs_are_listed_as_they_began() {
    let place = Place::new();
    let write = |folder: &str, stage: &str, started: &str| {
        write_manifest(&place, folder, stage, started);
    };
    write("a", "train_student", "2025-01-31T12:00:05.000001Z");
    for (folder, stage) in [
        ("b", "distributed_sgd"),
        ("c", "fed_md"),
        ("d", "fed_avg"),
        ("e", "train_student"),
        ("f", "train_student"),
        ("g", "generate_initial"),
        ("h", "train_teachers"),
        ("i", "split_data"),
    ] {
        write(folder, stage, "2025-01-31T12:00:05Z");
    }
    write("j", "fed_avg", "2025-01-31T12:00:04.999999Z");
    let (code, out, errors) = place.run_with("inspect", &[], &["runs", ".", "--json"]);
    assert_eq!(code, 0, "{errors}");
    let runs: Vec<Value> = serde_json::from_str(&out).unwrap();
    let names: Vec<_> = runs
        .iter()
        .map(|run| run["run"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["j", "i", "h", "g", "e", "f", "d", "c", "b", "a"]);
}

/// The sample's standard deviation.
#[test]
fn repetitions_have_mean_and_deviation() {
    let groups = data(&["runs", ".", "--group"]);
    let groups = groups.as_array().unwrap();
    assert_eq!(
        groups.len(),
        2,
        "one of students, one of teachers: {groups:?}"
    );
    let students = groups
        .iter()
        .find(|group| group["stage"] == "train_student")
        .unwrap();
    assert_eq!(students["runs"], 3);
    for (ours, theirs) in [
        ("final", "final_test_accuracy"),
        ("best", "best_test_accuracy"),
    ] {
        let values: Vec<f64> = SEEDS
            .iter()
            .map(|&seed| metrics(seed)[theirs].as_f64().unwrap())
            .collect();
        let mean = values.iter().sum::<f64>() / 3.0;
        // The mean square of all differences, another way to the variance.
        let pairs = [(0, 1), (0, 2), (1, 2)].map(|(a, b)| (values[a] - values[b]).powi(2));
        let std = (pairs.iter().sum::<f64>() / 6.0).sqrt();
        assert!((students[ours]["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
        assert!((students[ours]["std"].as_f64().unwrap() - std).abs() < 1e-12);
        let table = inspect(&["runs", ".", "--group"]);
        let cell = format!("{:.1} ± {:.1}", 100.0 * mean, 100.0 * std);
        assert!(
            line(&table, "train_student").contains(&cell),
            "{cell} in\n{table}"
        );
    }
    // The three students have the same teachers.
    for measured in ["teachers_mean", "ensemble", "one_shot_average"] {
        assert_eq!(students[measured]["n"], 1, "{measured}: {students}");
    }
    // Two teachers in one folder are one repetition, of their mean.
    let teachers = groups
        .iter()
        .find(|group| group["stage"] == "train_teachers")
        .unwrap();
    let of = |node: usize| {
        data(&["show", &format!("teachers/teacher{node}")])["metrics"]["final_test_accuracy"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(teachers["runs"], 1);
    assert!((teachers["final"]["mean"].as_f64().unwrap() - (of(0) + of(1)) / 2.0).abs() < 1e-12);
    assert!(teachers["final"]["std"].is_null());
}

#[test]
fn another_setting_is_another_group_named_by_it() {
    let place = copy();
    place.ok(
        "train_student",
        &[
            "split.unif_percentage=0",
            "student.epochs=1",
            "student.save_folder=students/short",
        ],
    );
    let (code, table, errors) = place.run_with("inspect", &[], &["runs", "--group", "students"]);
    assert_eq!(code, 0, "{errors}");
    let lines: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("train_student"))
        .collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(
        lines.iter().any(|line| line.contains("student.epochs=1")),
        "{table}"
    );
    assert!(
        lines.iter().any(|line| line.contains("student.epochs=2")),
        "{table}"
    );
}

#[test]
fn a_run_is_shown_with_its_files_and_what_was_set() {
    let text = inspect(&["show", "students/2"]);
    let (_, sha256) = hash::file(&experiment().path("students/2/student.safetensors")).unwrap();
    let (_, of_input) = hash::file(&experiment().path("initial.safetensors")).unwrap();
    for word in [
        "train_student",
        "done",
        "student.seed 2",
        &sha256[..12],
        &of_input[..12],
    ] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    assert_eq!(line(&text, "student.epochs"), ["student.epochs", "2"]);
    assert!(!text.contains("student.adaptive"), "that is the default");
    assert!(inspect(&["show", "students/2", "--all"]).contains("student.adaptive"));
    // The recorded command is longer than any line of a terminal, and the rule is not.
    let longest = |begins: fn(char) -> bool| {
        let lines = text.lines().filter(|line| line.starts_with(begins));
        lines.map(|line| line.chars().count()).max().unwrap()
    };
    assert!(longest(|c| c == 'c') > 200, "{text}");
    assert_eq!(longest(|c| c == '─'), 100, "{text}");
    // The same run by its manifest and by a file of it.
    for other in ["students/2/manifest.json", "students/2/metrics.json"] {
        assert_eq!(
            data(&["show", other])["run"],
            data(&["show", "students/2"])["run"]
        );
    }
}

#[test]
fn a_difference_is_settings_then_metrics() {
    let difference = data(&["diff", "students/1", "students/3"]);
    let keys: Vec<&str> = difference["config"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["student.save_folder", "student.seed"]);
    assert!(
        difference["circumstances"].as_array().unwrap().is_empty(),
        "{difference}"
    );
    let accuracy = |seed: u64| metrics(seed)["final_test_accuracy"].as_f64().unwrap();
    let change = difference["metrics"][0]["change"].as_f64().unwrap();
    assert!((change - (accuracy(3) - accuracy(1))).abs() < 1e-12);
    let table = inspect(&["diff", "students/1", "students/3"]);
    let cells = line(&table, "final test accuracy");
    assert_eq!(
        cells[3],
        format!("{:+.1}", 100.0 * (accuracy(3) - accuracy(1))),
        "{table}"
    );
    // The settings differ, which nothing may contradict.
    let circumstances = "\ninputs, versions and device are the same\n";
    assert!(table.contains(circumstances), "{table}");
    let same = inspect(&["diff", "students/1", "students/1"]);
    assert!(same.contains("the settings are the same"), "{same}");
}
