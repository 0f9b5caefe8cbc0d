//! Numbers that nobody vouches for are not compared.

use super::compare;
use crate::{copy, metrics};
use fed_distill::artifact::json;

const FILE: &str = "students/1/metrics.json";

#[test]
fn metrics_that_were_changed_are_refused() {
    let place = copy();
    let mut edited = metrics(1);
    edited["final_test_accuracy"] = 0.999.into();
    json::write(&place.path(FILE), &edited).unwrap();
    for named in ["students", "students/1"] {
        let (code, out, errors) = compare(&place, &[named, "--out", "edited.png"]);
        assert!(code == 1 && out.is_empty(), "{out}{errors}");
        for word in [
            "`students/1/metrics.json` is not the file that `train_student` wrote",
            "sha256",
            "inspect verify",
        ] {
            assert!(errors.contains(word), "no `{word}` in {errors}");
        }
        assert!(!place.path("edited.png").exists());
    }
    // The others are as they were.
    assert_eq!(compare(&place, &["students/2", "students/3"]).0, 0);
    // A list goes on without the number.
    let (code, table, warnings) = place.run_with("inspect", &[], &["runs", "students"]);
    assert!(
        code == 0 && !table.contains("99.9") && warnings.contains("is not the file"),
        "{table}{warnings}"
    );
}

#[test]
fn metrics_that_are_gone_are_named() {
    let place = copy();
    std::fs::remove_file(place.path(FILE)).unwrap();
    for named in ["students", "students/1"] {
        let (code, _, errors) = compare(&place, &[named]);
        assert_eq!(code, 1, "{errors}");
        for word in [
            "the metrics of `students/1` are missing",
            "file: students/1/metrics.json",
            "train_student overwrite=true",
        ] {
            assert!(errors.contains(word), "no `{word}` in {errors}");
        }
    }
    // Other subcommands do not take them for a run that measured nothing.
    let inspect = |arguments: &[&str]| place.run_with("inspect", &[], arguments);
    let (code, _, errors) = inspect(&["confusion", "students/1"]);
    let lost = "error: the metrics of `students/1` are missing";
    assert!(code == 1 && errors.starts_with(lost), "{errors}");
    let (code, _, warnings) = inspect(&["runs", "--group", "students"]);
    assert_eq!(code, 0, "{warnings}");
    let lost = "left out: the metrics of `1` are missing";
    assert!(warnings.contains(lost), "{warnings}");
}
