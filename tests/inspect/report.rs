//! `report`: one file that needs nothing else, with what it should show in it.

use crate::common::Place;
use crate::{SEEDS, copy, experiment, inspect, metrics, percent, student};
use fed_distill::artifact::hash;
use roxmltree::{Document, ParsingOptions};

/// Writes a report and returns it.
fn report(of: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let said = inspect(&["report", of, "--out", path.to_str().unwrap()]);
    assert!(said.contains("report.html"), "{said}");
    std::fs::read_to_string(path).unwrap()
}

/// The page is well-formed XML too, so a strict parser reads it.
fn parsed(html: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(html, options).unwrap()
}

fn texts(doc: &Document, tag: &str) -> Vec<String> {
    let nodes = doc.descendants().filter(|node| node.has_tag_name(tag));
    nodes
        .map(|node| {
            node.descendants()
                .filter_map(|inner| inner.text().filter(|_| inner.is_text()))
                .collect()
        })
        .collect()
}

#[test]
fn the_page_stands_alone() {
    for of in [".", "students/1"] {
        let html = report(of);
        let doc = parsed(&html);
        for node in doc.descendants() {
            for attribute in node.attributes() {
                let (name, value) = (attribute.name(), attribute.value());
                match name {
                    "src" => assert!(value.starts_with("data:image/png;base64,"), "{value:.60}"),
                    "href" => assert!(value.starts_with('#'), "{value}"),
                    _ => assert!(
                        !value.contains("://") && !name.starts_with("on"),
                        "{name}={value:.60}"
                    ),
                }
            }
            assert!(
                !["script", "link", "iframe", "object", "base"].contains(&node.tag_name().name())
            );
        }
        let style = texts(&doc, "style").concat();
        assert!(!style.contains("url(") && !style.contains("@import"));
        assert!(style.contains("prefers-color-scheme:dark") && style.contains("@media print"));
        let anchors: Vec<_> = doc
            .descendants()
            .filter_map(|node| node.attribute("href"))
            .collect();
        let has = |id: &str| {
            doc.descendants()
                .any(|node| node.attribute("id") == Some(id))
        };
        assert!(!anchors.is_empty() && anchors.iter().all(|anchor| has(&anchor[1..])));
    }
}

/// Shows curves, the confusion matrix, image grids, settings and hashes.
#[test]
fn report_of_one_run() {
    let html = report("students/2");
    let doc = parsed(&html);
    let plots: Vec<_> = doc
        .descendants()
        .filter(|node| node.has_tag_name("svg"))
        .filter_map(|node| node.attribute("aria-label"))
        .collect();
    for plot in [
        "Accuracy of the student",
        "Accuracy of the student by class",
        "Training loss of the student",
        "Confusion matrix of the student",
    ] {
        assert!(plots.contains(&plot), "{plot} in {plots:?}");
    }
    // Every plot has a title, and titles with units for its axes.
    assert!(
        html.contains("accuracy (%)")
            && html.contains("predicted class")
            && html.contains(">epoch") | html.contains("\nepoch")
    );
    assert!(
        doc.descendants()
            .filter(|node| node.has_tag_name("img"))
            .count()
            >= 1
    );
    let strong = texts(&doc, "strong");
    assert_eq!(
        strong[0],
        percent(&metrics(2)["comparison"]["student"]),
        "{strong:?}"
    );
    let (_, sha256) = hash::file(&student(2).join("student.safetensors")).unwrap();
    assert!(html.contains(&sha256) && html.contains("student.seed=2"));
    assert!(html.contains("all were unchanged"));
    assert!(!html.contains("no longer there"));
}

/// Shows the split, the teachers, and the spread of the students.
#[test]
fn report_of_an_experiment() {
    let html = report(".");
    let doc = parsed(&html);
    let headings = texts(&doc, "h2");
    assert_eq!(
        headings,
        [
            "Result",
            "Split",
            "Teachers",
            "Initial batches",
            "Student",
            "Runs",
            "Settings and files"
        ]
    );
    let table = inspect(&["runs", ".", "--group"]);
    let spread = crate::line(&table, "train_student")
        .into_iter()
        .find(|cell| cell.contains('±'))
        .unwrap();
    assert!(texts(&doc, "td").contains(&spread), "{spread}");
    for seed in SEEDS {
        assert!(texts(&doc, "th").contains(&format!("students/{seed}")));
    }
    let labels: Vec<_> = doc
        .descendants()
        .filter_map(|node| node.attribute("aria-label"))
        .collect();
    for plot in [
        "Training images of each node",
        "Teachers on the whole test set",
        "Students on the test set",
    ] {
        assert!(labels.contains(&plot), "{plot} in {labels:?}");
    }
}

#[test]
fn names_and_pictures_cannot_smuggle_anything_in() {
    let place = copy();
    let evil = "<svg xmlns=\"http://www.w3.org/2000/svg\" \
        onload=\"alert(1)\"><script>alert(2)</script></svg>";
    std::fs::write(place.path("students/1/curves.svg"), evil).unwrap();
    std::fs::write(place.path("students/1/dataset.png"), "<b>no picture</b>").unwrap();
    std::fs::rename(place.path("students/1"), place.path("students/<i>&\"1")).unwrap();
    // What a browser and a parser of XML take for different things.
    let comment = "<svg xmlns=\"http://www.w3.org/2000/svg\"><!--><img src=\"x\" \
        onerror=\"alert(3)\"/>--></svg>";
    std::fs::write(place.path("students/2/curves.svg"), comment).unwrap();
    // CSS reads names in any case, and characters by their numbers.
    let loading = "<svg xmlns=\"http://www.w3.org/2000/svg\">\
        <rect fill=\"U\\72l(//elsewhere.example/x)\"/></svg>";
    std::fs::write(place.path("students/3/curves.svg"), loading).unwrap();
    let (code, _, errors) = place.run_with(
        "inspect",
        &[],
        &["report", "students", "--out", "evil.html"],
    );
    assert_eq!(code, 0, "{errors}");
    assert_eq!(errors.matches("not one of ours").count(), 3, "{errors}");
    let html = std::fs::read_to_string(place.path("evil.html")).unwrap();
    let doc = parsed(&html);
    assert!(!html.contains("alert(") && !html.contains("no picture"));
    assert!(!html.contains("elsewhere.example"));
    assert!(texts(&doc, "th").contains(&"<i>&\"1".to_owned()));
    assert!(
        html.contains("has changed since it was written"),
        "the damage is reported"
    );
}

/// To open one would wait for ever.
#[test]
fn pipes_are_left_out() {
    let place = copy();
    for name in ["students/1/curves.svg", "students/1/dataset.png"] {
        let path = place.path(name);
        std::fs::remove_file(&path).unwrap();
        let pipe = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the name ends in a zero byte and lives as long as the call.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    }
    let (code, _, errors) = place.run_with("inspect", &[], &["report", "students/1"]);
    assert_eq!(code, 0, "{errors}");
    let html = std::fs::read_to_string(place.path("students/1/report.html")).unwrap();
    assert!(html.contains("is a pipe, not a file"));
}

#[test]
fn plots_need_no_temporary_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let output = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin("inspect"))
        .current_dir(experiment().path("."))
        .env("TMPDIR", "/nowhere")
        .args(["report", "students/1", "--out"])
        .arg(&path)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let html = std::fs::read_to_string(&path).unwrap();
    assert!(html.contains("Confusion matrix of the student"));
}

/// `split.v1` is the run of `split.v1.json`.
#[test]
fn report_of_a_name_with_points() {
    let place = Place::new();
    place.ok("split_data", &["split.save_path=split.v1.json"]);
    let (code, out, errors) = place.run_with("inspect", &[], &["report", "split.v1"]);
    assert_eq!(code, 0, "{errors}");
    assert!(place.path("split.v1.report.html").exists(), "{out}");
}

/// The report says so.
#[test]
fn short_matrix_is_left_out() {
    let place = copy();
    let path = place.path("students/1/metrics.json");
    let (_, before) = hash::file(&path).unwrap();
    let mut damaged = metrics(1);
    damaged["confusion"] = serde_json::json!([[1, 2], [3]]);
    std::fs::write(&path, damaged.to_string()).unwrap();
    let report = || {
        let (code, _, errors) = place.run_with(
            "inspect",
            &[],
            &["report", "students/1", "--out", "report.html"],
        );
        assert_eq!(code, 0, "{errors}");
        errors
    };
    // What was changed by hand is no longer the run's; the report shows the rest.
    let errors = report();
    assert!(
        errors.contains("left out of the report") && errors.contains("students/1/metrics.json"),
        "{errors}"
    );
    let html = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(html.contains("has changed since it was written"));

    // As if a run had written it.
    let manifest = place.path("students/1/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(
        &manifest,
        text.replace(&before, &hash::file(&path).unwrap().1),
    )
    .unwrap();
    let errors = report();
    assert!(
        errors.contains("not square")
            && errors.contains("students/1/metrics.json")
            && errors.contains("1 in row 1"),
        "{errors}"
    );
    let html = std::fs::read_to_string(place.path("report.html")).unwrap();
    let doc = parsed(&html);
    let labels: Vec<_> = doc
        .descendants()
        .filter_map(|node| node.attribute("aria-label"))
        .collect();
    assert!(labels.contains(&"Accuracy of the student"), "{labels:?}");
    assert!(
        !labels.contains(&"Confusion matrix of the student"),
        "{labels:?}"
    );
    let (code, _, errors) = place.run_with("inspect", &[], &["confusion", "students/1"]);
    assert!(
        code == 1 && errors.starts_with("error: the confusion matrix is not square"),
        "{errors}"
    );
}

#[test]
fn an_unfinished_experiment_has_a_report_too() {
    let place = copy();
    std::fs::remove_dir_all(place.path("students")).unwrap();
    std::fs::remove_file(place.path("teachers/metrics_teacher1.json")).unwrap();
    let (code, _, errors) = place.run_with("inspect", &[], &["report", "."]);
    assert_eq!(code, 0, "{errors}");
    let html = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(!texts(&parsed(&html), "h2").contains(&"Student".to_owned()));
    assert!(html.contains("is missing"));
}
