//! Manifests: what a run leaves, what it refuses to read, what it may replace.

use fed_distill::run::manifest::{
    self, Admission, Earlier, Manifest, Problem, Run, Start, Status, admit,
};
use fed_distill::{Class, Error};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn start(stage: &str, config: Value) -> Start {
    Start {
        stage: stage.into(),
        overrides: vec!["seed=1".into()],
        config,
        seeds: BTreeMap::from([("seed".into(), 1)]),
        device: "cpu".into(),
        threads: 2,
        result: "split.json".into(),
    }
}

fn begin(place: &Path) -> Run {
    let mut run = Run::prepare(place, start("split_data", config()));
    run.begin(Earlier::Nothing).unwrap();
    run
}

fn config() -> Value {
    json!({
        "seed": 1,
        "split": {"num_nodes": 2, "unif_percentage": 0.1},
        "student": {"epochs": 300},
        "resume": false,
    })
}

fn read(place: &Path) -> Manifest {
    manifest::existing(place).unwrap().unwrap()
}

/// A folder with `split.json` and the manifest of the finished run that wrote it.
fn finished() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("split.json");
    let place = manifest::beside(&output);
    let mut run = begin(&place);
    std::fs::write(&output, b"{}").unwrap();
    run.output("split", &output).unwrap();
    run.finish().unwrap();
    (folder, output, place)
}

#[test]
fn a_run_tells_how_it_was_made() {
    let (folder, output, place) = finished();
    assert_eq!(place, folder.path().join("split.manifest.json"));
    let mut run = begin(&folder.path().join("students/a/manifest.json"));
    run.input("split", &output).unwrap();
    run.fact("num_nodes", 2).unwrap();
    run.fact("num_nodes", 3).unwrap();
    assert!(
        run.fact("loss", [1.0, f64::NAN])
            .unwrap_err()
            .to_string()
            .contains("[1]")
    );
    let open = read(&folder.path().join("students/a/manifest.json"));
    assert_eq!((open.status, open.ended.as_ref()), (Status::Running, None));
    run.finish().unwrap();

    let made = read(&folder.path().join("students/a/manifest.json"));
    assert_eq!(
        (made.schema_version, made.status),
        (manifest::SCHEMA_VERSION, Status::Done)
    );
    assert_eq!(
        (made.config, made.overrides),
        (config(), vec!["seed=1".to_string()])
    );
    assert_eq!(made.facts, BTreeMap::from([("num_nodes".into(), json!(3))]));
    assert_eq!(made.inputs[0].path, Path::new("../../split.json"));
    assert_eq!(
        (made.inputs[0].bytes, made.inputs[0].role.as_str()),
        (2, "split")
    );
    // sha256 of `{}`
    assert!(
        made.inputs[0]
            .sha256
            .starts_with("44136fa355b3678a1146ad16f7e8649e")
    );
    assert_eq!(made.versions.libtorch, "2.11.0");
    assert!(!made.argv.is_empty());
    let shape = "2025-01-31T12:00:05.000001Z";
    assert_eq!(made.started.len(), shape.len(), "{}", made.started);
    let (started, ended) = (
        made.started.parse::<jiff::Timestamp>(),
        made.ended.unwrap().parse::<jiff::Timestamp>(),
    );
    assert!(started.unwrap() <= ended.unwrap());
}

#[test]
fn a_replaced_run_leaves_no_files_of_its_own() {
    let (folder, output, place) = finished();
    let mut earlier = read(&place);
    let inside = |name: &str| folder.path().join(name);
    std::fs::create_dir(inside("pictures")).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    let mut run = begin(&place);
    for name in ["pictures/old.png", "changed.png", "split.json"] {
        std::fs::write(inside(name), name).unwrap();
        run.output("picture", &inside(name)).unwrap();
    }
    run.output("picture", outside.path()).unwrap();
    earlier.outputs = run.manifest().outputs.clone();
    std::fs::write(inside("changed.png"), "by somebody").unwrap();
    std::fs::write(inside("another.png"), "of nobody").unwrap();

    let mut run = Run::prepare(&place, start("split_data", config()));
    run.begin(Earlier::Replaced(Box::new(earlier))).unwrap();
    // An interruption takes nothing away, and the run that resumes knows what it replaces.
    run.end_with(&Error::interrupted("interrupted")).unwrap();
    assert!(inside("pictures/old.png").exists());
    let mut run = Run::prepare(&place, start("split_data", config()));
    let interrupted = Box::new(read(&place));
    run.begin(Earlier::Resumed {
        run: interrupted,
        last: None,
    })
    .unwrap();
    run.output("split", &output).unwrap();
    run.finish().unwrap();

    assert!(!inside("pictures").exists());
    for name in ["changed.png", "another.png", "split.json"] {
        assert!(inside(name).exists(), "{name}");
    }
    assert!(outside.path().exists());
    assert!(read(&place).replaces.is_empty());
}

#[test]
fn time_between_processes_is_no_work() {
    let (_folder, _, place) = finished();
    let times = |earlier_seconds, started: &str, resumed: &[&str], ended: Option<&str>| {
        let time = |time: &str| format!("2025-01-31T{time}Z");
        let made = Manifest {
            earlier_seconds,
            started: time(started),
            resumed: resumed.iter().copied().map(time).collect(),
            ended: ended.map(time),
            ..read(&place)
        };
        made.worked().map(|worked| worked.as_secs())
    };
    assert_eq!(times(None, "12:00:00", &[], None), None);
    assert_eq!(times(None, "12:00:00", &[], Some("12:00:07")), Some(7));
    // An earlier version did not tell.
    assert_eq!(
        times(None, "12:00:00", &["13:00:00"], Some("13:00:07")),
        Some(3607)
    );
    let resumed = ["13:00:00", "20:00:00"];
    assert_eq!(
        times(Some(30.5), "12:00:00", &resumed, Some("20:00:02")),
        Some(32)
    );
    // A clock that was set back.
    assert_eq!(times(None, "12:00:00", &[], Some("11:00:00")), Some(0));

    // What a process adds to those before it.
    let then = Manifest {
        started: "2025-01-31T12:00:00Z".into(),
        resumed: vec!["2025-01-31T13:00:00Z".into()],
        earlier_seconds: Some(20.0),
        ended: None,
        ..read(&place)
    };
    let mut run = Run::prepare(&place, start("split_data", config()));
    run.begin(Earlier::Resumed {
        run: Box::new(then),
        last: Some("2025-01-31T13:00:05Z".parse().unwrap()),
    })
    .unwrap();
    assert_eq!(run.manifest().earlier_seconds, Some(25.0));
}

#[test]
fn an_error_ends_a_run_by_its_class() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("manifest.json");
    begin(&place)
        .end_with(&Error::failed("the loss is NaN").hint("lower it"))
        .unwrap();
    let failed = read(&place);
    assert_eq!(failed.status, Status::Failed);
    assert_eq!(failed.error.unwrap(), "the loss is NaN\nhint: lower it");
    begin(&place)
        .end_with(&Error::interrupted("interrupted"))
        .unwrap();
    assert_eq!(read(&place).status, Status::Interrupted);
}

#[test]
fn an_input_that_changed_is_refused_by_name() {
    let (folder, output, place) = finished();
    let mut run = begin(&folder.path().join("next.manifest.json"));
    run.input("split", &output).unwrap();
    std::fs::write(&output, b"{ }").unwrap();
    let error = run.input("split", &output).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.class(), Class::Failed);
    assert!(
        text.contains("split.json` is not the file that `split_data` wrote"),
        "{text}"
    );
    assert!(
        text.contains("expected: 2 bytes, sha256 44136fa3")
            && text.contains("found: 3 bytes, sha256 "),
        "{text}"
    );
    assert!(text.contains(place.to_str().unwrap()), "{text}");
    std::fs::remove_file(place).unwrap();
    run.input("split", &output)
        .expect("without a manifest there is nothing to check against");
}

#[test]
fn producer_is_found_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = |i: usize| folder.path().join(format!("model_teacher{i}.safetensors"));
    for i in 0..12 {
        let mut run = begin(&folder.path().join(format!("manifest_teacher{i}.json")));
        std::fs::write(teacher(i), [i as u8]).unwrap();
        run.output("teacher", &teacher(i)).unwrap();
        run.finish().unwrap();
    }
    for i in [1, 11] {
        let place = folder.path().join(format!("manifest_teacher{i}.json"));
        assert_eq!(manifest::producer_of(&teacher(i)), Some(place));
    }
    std::fs::write(folder.path().join("notes.txt"), b"x").unwrap();
    assert_eq!(
        manifest::producer_of(&folder.path().join("notes.txt")),
        None
    );
    assert_eq!(manifest::producer_of(Path::new("none/at/all")), None);
}

/// Missing and changed outputs of a folder that was moved.
#[test]
fn verify_finds_changes_after_a_move() {
    let (folder, _, _) = finished();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("runs");
    std::fs::rename(folder.path(), &moved).unwrap();
    let (output, place) = (moved.join("split.json"), moved.join("split.manifest.json"));
    assert_eq!(manifest::verify(&place).unwrap(), []);
    std::fs::write(&output, b"{ }").unwrap();
    let findings = manifest::verify(&place).unwrap();
    assert!(matches!(findings[0].problem, Problem::Changed { .. }));
    assert!(findings[0].to_string().contains("split.json"));
    std::fs::remove_file(&output).unwrap();
    assert_eq!(
        manifest::verify(&place).unwrap()[0].problem,
        Problem::Missing
    );
    std::fs::remove_file(&place).unwrap();
    assert!(manifest::verify(&place).is_err());
}

/// Damaged, or of a newer version.
#[test]
fn bad_manifest_is_named() {
    let (_folder, output, place) = finished();
    let text = std::fs::read_to_string(&place).unwrap();
    for (damage, says) in [
        (text[..text.len() / 2].to_string(), "ends too early"),
        (
            text.replace("\"threads\": 2", "\"threads\": \"two\""),
            "expected: usize",
        ),
        (
            text.replace("\"schema_version\": 1", "\"schema_version\": 99"),
            "newer format",
        ),
    ] {
        std::fs::write(&place, damage).unwrap();
        let error = manifest::existing(&place).unwrap_err().to_string();
        assert!(
            error.contains("split.manifest.json") && error.contains(says),
            "{error}"
        );
        assert!(admit(&place, true, false, &output, &config()).is_err());
        assert_eq!(
            admit(&place, false, true, &output, &config()).unwrap(),
            Admission::Fresh
        );
    }
}

#[test]
fn admission_follows_its_table() {
    let folder = tempfile::tempdir().unwrap();
    let (output, place) = (
        folder.path().join("out"),
        folder.path().join("manifest.json"),
    );
    // No flag, resume, overwrite; `None` is a refusal.
    let row = || {
        [(false, false), (true, false), (false, true)]
            .map(|(resume, overwrite)| admit(&place, resume, overwrite, &output, &config()).ok())
    };
    use Admission::{Continue, Done, Fresh};

    assert_eq!(
        row(),
        [Some(Fresh), Some(Fresh), Some(Fresh)],
        "nothing there"
    );
    std::fs::create_dir(&output).unwrap();
    assert_eq!(
        row(),
        [Some(Fresh), Some(Fresh), Some(Fresh)],
        "an empty folder"
    );
    std::fs::write(output.join("weights"), b"x").unwrap();
    assert_eq!(
        row(),
        [None, None, Some(Fresh)],
        "a result without a manifest"
    );
    let run = begin(&place);
    assert_eq!(
        row(),
        [Some(Fresh), Some(Continue), Some(Fresh)],
        "running, or killed"
    );
    run.end_with(&Error::interrupted("interrupted")).unwrap();
    assert_eq!(
        row(),
        [Some(Fresh), Some(Continue), Some(Fresh)],
        "interrupted"
    );
    begin(&place).finish().unwrap();
    assert_eq!(row(), [None, Some(Done), Some(Fresh)], "done");
    std::fs::remove_dir_all(&output).unwrap();
    assert_eq!(
        row(),
        [Some(Fresh), Some(Fresh), Some(Fresh)],
        "done, result removed"
    );

    let both = admit(&place, true, true, &output, &config()).unwrap_err();
    assert_eq!(both.class(), Class::Usage);
}

/// The hint names `resume=true` and `overwrite=true`.
#[test]
fn finished_run_is_protected() {
    let (_folder, output, place) = finished();
    let error = admit(&place, false, false, &output, &config()).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.class(), Class::Usage);
    assert!(
        text.contains("split.json` holds a finished run of `split_data`"),
        "{text}"
    );
    let ended = text.lines().find(|line| line.contains("Z, device cpu"));
    assert!(ended.is_some_and(|line| !line.contains('.')), "{text}");
    assert!(
        text.contains("resume=true") && text.contains("overwrite=true"),
        "{text}"
    );
}

#[test]
fn resume_with_another_config_names_the_keys() {
    let (_folder, output, place) = finished();
    let again = |config: Value| admit(&place, true, false, &output, &config);
    let relevant = json!({"seed": 1, "split": {"num_nodes": 2}, "generator": null});
    assert_eq!(
        again(relevant).unwrap(),
        Admission::Done,
        "left-out and empty keys do not count"
    );

    let error =
        again(json!({"seed": 2, "split": {"num_nodes": 3, "unif_percentage": 0.1}})).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.class(), Class::Usage);
    assert!(text.contains("differs: seed: 1 then, 2 now"), "{text}");
    assert!(
        text.contains("differs: split.num_nodes: 2 then, 3 now"),
        "{text}"
    );
    assert!(!text.contains("unif_percentage"), "{text}");

    let text = again(json!({"split": null})).unwrap_err().to_string();
    assert!(
        text.contains("differs: split: {") && text.contains(" then, null now"),
        "{text}"
    );

    begin(&place).end_with(&Error::failed("stopped")).unwrap();
    assert!(
        again(json!({"seed": 2})).is_err(),
        "an unfinished run is not continued with another config either"
    );
}
