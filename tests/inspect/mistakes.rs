//! What `inspect` says to those who mistype.

use crate::common::Place;
use crate::{experiment, inspect};
use clap::CommandFactory;
use fed_distill::inspect::Request;

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
    let errors = fails(&["compare", "split.json"], 2);
    assert!(
        errors.contains("no finished student or baseline"),
        "{errors}"
    );
    let errors = fails(&["grid", "teachers/model_teacher0.safetensors"], 2);
    assert!(errors.contains("no tensor `images`"), "{errors}");
    let errors = fails(&["split", "students/1/metrics.json"], 2);
    assert!(errors.contains("metrics.json"), "{errors}");
}

/// What was given has no part of what the subcommand shows: the hint is a whole command for what
/// has, if there is any near it.
#[test]
fn the_command_that_was_meant_is_named() {
    for (typed, what, hint) in [
        (
            "ensembles students/1",
            "`students/1` holds no teachers",
            "inspect ensembles teachers",
        ),
        (
            "ensembles .",
            "`.` holds no teachers",
            "inspect ensembles teachers",
        ),
        (
            "split .",
            "`.` is a folder, not a file",
            "inspect split split.json",
        ),
        (
            "split split.png",
            "`split.png` is no split: it is a picture (PNG)",
            "inspect split split.json",
        ),
        (
            "tensors .",
            "`.` is a folder, not a file",
            "inspect tensors initial.safetensors",
        ),
        (
            "tensors students/1",
            "available: dataset.safetensors, student.safetensors\n",
            "inspect tensors students/1/dataset.safetensors",
        ),
        (
            "grid initial.png",
            "`initial.png` holds no images as tensors: it is a picture (PNG)",
            "inspect grid initial.safetensors",
        ),
        (
            "grid students/1/curves.png",
            "it is a picture (PNG)",
            "inspect grid students/1/dataset.safetensors",
        ),
        (
            "confusion initial",
            "`initial` holds no student",
            "inspect confusion students/1",
        ),
        (
            "confusion teachers/teacher0",
            "`teachers/teacher0` holds no student",
            "inspect confusion students/1",
        ),
        (
            "neighbours teachers/teacher0",
            "`teachers/teacher0` holds no run that made images",
            "inspect neighbours initial",
        ),
    ] {
        let arguments: Vec<&str> = typed.split(' ').collect();
        let errors = fails(&arguments, 2);
        let hint = format!("`{hint}`");
        assert!(errors.contains(what) && errors.contains(&hint), "{errors}");
    }
}

/// Where nothing near it is what the subcommand shows, the one that shows what is there is named.
#[test]
fn what_is_there_can_be_listed() {
    let place = Place::new();
    place.ok("split_data", &[]);
    for (typed, words) in [
        (
            "confusion split",
            ["holds no student", "`inspect show split`"],
        ),
        ("confusion .", ["holds no student", "`inspect runs .`"]),
        (
            "grid split.png",
            [
                "expected: `initial.safetensors`, or `dataset.safetensors` of a student",
                "available: split.hydra, split.json",
            ],
        ),
        (
            "ensembles .",
            ["expected: model_teacher0.safetensors", "`inspect runs`"],
        ),
    ] {
        let arguments: Vec<&str> = typed.split(' ').collect();
        let (code, _, errors) = place.run_with("inspect", &[], &arguments);
        assert_eq!(code, 2, "{typed}: {errors}");
        let told = words.iter().all(|word| errors.contains(word));
        assert!(told, "{typed}: {errors}");
    }
    std::fs::remove_file(place.path("split.manifest.json")).unwrap();
    let (code, _, errors) = place.run_with("inspect", &[], &["split", "split.json"]);
    assert!(code == 2 && errors.contains("file: split.json"), "{errors}");
    let command = "`inspect split split.json dataset=digits`";
    assert!(errors.contains(command), "{errors}");
}

#[test]
fn help_names_every_subcommand() {
    let help = inspect(&["--help"]);
    for subcommand in Request::command().get_subcommands() {
        let name = subcommand.get_name();
        assert!(help.contains(&format!("\n  {name} ")), "{help}");
        assert!(
            inspect(&[name, "--help"]).contains("Usage: inspect"),
            "{name}"
        );
    }
}

/// A file of another kind is called what it is.
#[test]
fn subcommand_for_a_file_is_named() {
    for (arguments, words) in [
        (
            &["tensors", "split.json"][..],
            &[
                "`split.json` holds no tensors: it is a split",
                "hint: `inspect split split.json` shows it",
            ][..],
        ),
        (
            &["tensors", "students/1/metrics.json"],
            &[
                "JSON, the metrics of a run of `train_student`",
                "`inspect show students/1/metrics.json`",
            ],
        ),
        (
            &["grid", "students/1/manifest.json"],
            &[
                "the manifest of a run of `train_student`",
                "`inspect show students/1/manifest.json`",
            ],
        ),
        (&["tensors", "split.png"], &["it is a picture (PNG)"]),
        (&["tensors", "split.hydra/config.yaml"], &["it is text"]),
        (
            &["split", "initial.safetensors"],
            &[
                "is no split: it is a safetensors file",
                "`inspect tensors initial.safetensors`",
            ],
        ),
    ] {
        let errors = fails(arguments, 2);
        assert!(
            words.iter().all(|word| errors.contains(word)),
            "{arguments:?}: {errors}"
        );
    }
}

/// Where a run is wanted, what is no run is no help.
#[test]
fn runs_are_listed_where_one_is_wanted() {
    for (arguments, code) in [
        (&["show", "nope"][..], 2),
        (&["diff", "split", "nope"], 2),
        (&["confusion", "nope"], 2),
        (&["show", "split.hydra/config.yaml"], 2),
    ] {
        let errors = fails(arguments, code);
        assert!(
            !errors.contains("split.json") && !errors.contains("split.png"),
            "{errors}"
        );
        if arguments[arguments.len() - 1] == "nope" {
            let runs = "available: initial, split, students/1, students/2, students/3, \
                teachers/teacher0, teachers/teacher1";
            assert!(errors.contains(runs), "{errors}");
        }
    }
    let errors = fails(&["show", "students/one"], 2);
    assert!(errors.contains("students/1, students/2"), "{errors}");
    let errors = fails(&["show", "teachers/teachr0"], 2);
    assert!(
        errors.contains("did you mean `teachers/teacher0`?"),
        "{errors}"
    );
}
