//! What `inspect` says to those who mistype.

use crate::{experiment, inspect};

fn fails(arguments: &[&str], code: i32) -> String {
    let (found, out, errors) = experiment().run_with("inspect", &[], arguments);
    assert_eq!(found, code, "{arguments:?}\n{out}\n{errors}");
    assert!(
        out.is_empty() && errors.starts_with("error: ") && !errors.contains("panicked"),
        "{errors}"
    );
    errors
}

#[test]
fn the_nearest_right_spelling_is_named() {
    for (arguments, words) in [
        (
            &["rnus"][..],
            &[
                "`inspect` has no subcommand `rnus`",
                "did you mean `inspect runs`?",
            ][..],
        ),
        (
            &["runs", ".", "--gruop"],
            &[
                "`inspect runs` takes no `--gruop`",
                "did you mean `--group`?",
            ],
        ),
        (
            &["show", "student"],
            &["there is no run `student`", "did you mean `students`?"],
        ),
        (
            &["show"],
            &["`inspect show` needs <RUN>", "inspect show --help"],
        ),
        (
            &["tensors", "inital.safetensors"],
            &[
                "there is no file `inital.safetensors`",
                "did you mean `initial.safetensors`?",
            ],
        ),
        // Alike by its ending alone.
        (
            &["tensors", "results.json"],
            &[
                "there is no file `results.json`",
                "available: ",
                "split.json",
            ],
        ),
        (
            &["tensors", "teachers"],
            &["`teachers` is a folder", "model_teacher0.safetensors"],
        ),
        (
            &["grid", "initial.safetensors", "--by", "claas"],
            &["`--by` cannot be `claas`", "class, teacher, none"],
        ),
        (
            &["show", "students"],
            &[
                "holds more than one run",
                "students/1, students/2, students/3",
            ],
        ),
        (&[], &["needs a subcommand", "runs, show"]),
        (&["runs", "nowhere"], &["there is no folder `nowhere`"]),
    ] {
        let errors = fails(arguments, 2);
        assert!(
            words.iter().all(|word| errors.contains(word)),
            "{arguments:?}: {errors}"
        );
    }
}

#[test]
fn what_a_run_does_not_have_is_said() {
    let errors = fails(&["confusion", "teachers"], 2);
    assert!(
        errors.contains("holds no student") && errors.contains("teachers/teacher0"),
        "{errors}"
    );
    assert!(errors.contains("found: ") && errors.contains("(`train_teachers`)"));
    let errors = fails(&["verify", "students/2/student.safetensors"], 2);
    assert!(
        errors.contains("is a file, not a folder") && errors.contains("in is `students/2`"),
        "{errors}"
    );
    let errors = fails(&["compare", "split.json"], 1);
    assert!(
        errors.contains("no finished student or baseline"),
        "{errors}"
    );
    let errors = fails(&["tensors", "split.json"], 1);
    assert!(
        errors.contains("not a whole safetensors file") && errors.contains("split.json"),
        "{errors}"
    );
    let errors = fails(&["grid", "teachers/model_teacher0.safetensors"], 1);
    assert!(errors.contains("no tensor `images`"), "{errors}");
    let errors = fails(&["split", "students/1/metrics.json"], 1);
    assert!(errors.contains("metrics.json"), "{errors}");
}

#[test]
fn help_names_every_subcommand() {
    let help = inspect(&["--help"]);
    for name in [
        "runs",
        "show",
        "diff",
        "tensors",
        "grid",
        "split",
        "confusion",
        "compare",
        "verify",
        "neighbours",
        "report",
    ] {
        assert!(help.contains(&format!("\n  {name} ")), "{help}");
        assert!(
            inspect(&[name, "--help"]).contains("Usage: inspect"),
            "{name}"
        );
    }
}
