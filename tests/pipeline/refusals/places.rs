//! Places of results: what lies there and is not ours stays, and what cannot be written is found
//! out before any work is done.

use super::{made, says};
use crate::common::{Place, TINY};
use std::path::{Path, PathBuf};
use std::process::Command;

const FOREIGN: &str = "events.out.tfevents.1700000000.machine.1.0";

/// Writes a file of a user's own, with its folders.
fn own(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "mine").unwrap();
}

fn is_kept(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes == b"mine")
}

/// Folders of the names that a run uses were removed with all that was in them, and its other files
/// replaced without a word.
#[test]
fn files_of_others_are_refused_and_kept() {
    let place = made("generate_initial");
    for name in [
        "metrics.json",
        "metrics.jsonl",
        "curves.png",
        "dataset.safetensors",
        "di_metrics_teacher7.json",
        "checkpoint/weights.pt",
        "checkpoint/more/epoch1.safetensors",
        "checkpoint",
        ".hydra/config.yaml",
        &format!("tensorboard/{FOREIGN}"),
    ] {
        let path = place.path("student").join(name);
        own(&path);
        let text = place.fails("train_student", &[], 2);
        let top = Path::new("student").join(name.split('/').next().unwrap());
        says(
            &text,
            &[top.to_str().unwrap(), "no manifest", "overwrite=true"],
        );
        assert!(is_kept(&path), "{name}");
        std::fs::remove_dir_all(place.path("student")).unwrap();
    }
    own(&place.path("split2.png"));
    let text = place.fails("split_data", &["split.save_path=split2.json"], 2);
    says(&text, &["split2.png", "no manifest"]);
    assert!(is_kept(&place.path("split2.png")));
}

/// The manifest, the log and the pictures bear the result's stem: a name that differs only in its
/// ending would take them over.
#[test]
fn another_ending_takes_over_no_finished_run() {
    let place = made("split_data");
    let manifest = std::fs::read(place.path("split.manifest.json")).unwrap();
    for more in [
        &["split.save_path=split"][..],
        &["split.save_path=split.txt", "seed=9"],
        &["split.save_path=split.txt", "overwrite=true"],
        &["split.save_path=split.txt", "resume=true"],
    ] {
        let text = place.fails("split_data", more, 2);
        says(
            &text,
            &["with `split.json`", "split.manifest.json", "another name"],
        );
        assert_eq!(
            std::fs::read(place.path("split.manifest.json")).unwrap(),
            manifest
        );
        assert!(!place.path("split.txt").exists() && !place.path("split").exists());
    }
    // What was moved away has no claim.
    std::fs::rename(place.path("split.json"), place.path("moved.json")).unwrap();
    place.ok(
        "split_data",
        &["split.save_path=split.txt", "overwrite=true"],
    );
}

/// `overwrite=true` is about the run's own files.
#[test]
fn overwriting_removes_no_file_of_others() {
    let place = made("generate_initial");
    let kept = [
        "checkpoint/weights.pt",
        "checkpoint/x/y.safetensors",
        "notes.txt",
    ]
    .map(String::from);
    let kept: Vec<PathBuf> = kept
        .into_iter()
        .chain([format!("tensorboard/{FOREIGN}")])
        .map(|name| place.path("student").join(name))
        .collect();
    kept.iter().for_each(|path| own(path));
    for _ in 0..2 {
        place.ok("train_student", &["overwrite=true", "checkpoint.every=0"]);
        for path in &kept {
            assert!(is_kept(path), "{}", path.display());
        }
    }
    place.ok("train_student", &["resume=true"]);
    assert!(kept.iter().all(|path| is_kept(path)));
    let checkpoint = std::fs::read_dir(place.path("student/checkpoint")).unwrap();
    assert_eq!(checkpoint.count(), 2);
}

/// What a stage writes is what it would refuse to replace: no file is forgotten.
#[test]
fn every_file_of_a_stage_is_looked_for() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("train_teachers", &["teacher.only=[0]"]);
    place.ok("train_teachers", &["resume=true"]);
    place.ok("generate_initial", &[]);
    place.ok("train_student", &["student.new_batches_per_epoch=1"]);
    for (stage, folder, manifest, result, own) in [
        (
            "split_data",
            ".",
            "split.manifest.json",
            "split.json",
            "split.",
        ),
        (
            "generate_initial",
            ".",
            "initial.manifest.json",
            "initial.safetensors",
            "initial.",
        ),
        (
            "train_teachers",
            "teachers",
            "manifest_teacher1.json",
            "model_teacher1.safetensors",
            "",
        ),
        (
            "train_student",
            "student",
            "manifest.json",
            "student.safetensors",
            "",
        ),
    ] {
        let folder = place.path(folder);
        std::fs::remove_file(folder.join(manifest)).unwrap();
        let bytes = std::fs::read(folder.join(result)).unwrap();
        std::fs::remove_file(folder.join(result)).unwrap();
        let text = match stage {
            "train_teachers" => place.fails(stage, &["teacher.only=[1]"], 2),
            _ => place.fails(stage, &[], 2),
        };
        for entry in std::fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let other = name.contains("teacher0") || !name.trim_start_matches('.').starts_with(own);
            if !(other || name.ends_with(".log") || name.ends_with(".lock")) {
                assert!(text.contains(&name), "{stage}: no `{name}` in\n{text}");
            }
        }
        std::fs::write(folder.join(result), bytes).unwrap();
    }
}

/// All batches were made before the path turned out to be a folder.
#[test]
fn a_place_that_cannot_be_written_is_found_before_the_work() {
    let place = made("train_teachers");
    std::fs::create_dir(place.path("results")).unwrap();
    let listed = || {
        let entries = std::fs::read_dir(place.path(".")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    for path in ["results", "newdir/", ".", "..", "results/"] {
        let text = place.fails(
            "generate_initial",
            &[&format!("initial.save_path={path}")],
            2,
        );
        says(
            &text,
            &["`initial.save_path` is", "a folder", "initial.safetensors"],
        );
        let text = place.fails("split_data", &[&format!("split.save_path={path}")], 2);
        says(&text, &["`split.save_path` is", "a folder", "split.json"]);
    }
    for path in ["x.png", "x.svg", "x.log"] {
        // The name of another file of the same run.
        let text = place.fails("split_data", &[&format!("split.save_path={path}")], 2);
        says(&text, &["`split.save_path` is", "another file"]);
    }
    assert_eq!(listed(), before);
    // A folder where a file belongs, and a file where a folder does.
    std::fs::create_dir_all(place.path("results/initial.loss.png")).unwrap();
    let into = ["initial.save_path=results/initial.safetensors"];
    let text = place.fails(
        "generate_initial",
        &[&into[..], &["overwrite=true"]].concat(),
        1,
    );
    says(&text, &["results/initial.loss.png", "it is a folder"]);
    std::fs::remove_dir(place.path("results/initial.loss.png")).unwrap();
    own(&place.path("results/initial.checkpoint"));
    let text = place.fails(
        "generate_initial",
        &[&into[..], &["overwrite=true"]].concat(),
        1,
    );
    says(
        &text,
        &["results/initial.checkpoint` is a file, not a folder"],
    );
    assert!(!place.path("results/initial.manifest.json").exists());
}

/// The space is too small for what is known to come: nothing is computed.
#[test]
fn a_disk_too_small_for_the_result_is_found_before_the_work() {
    let place = made("train_teachers");
    let small = place.path("small");
    std::fs::create_dir(&small).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=40k", "tmpfs"])
        .arg(&small)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        println!("only root can mount a small file system");
        return;
    }
    let settings = [
        "initial.save_path=small/x.safetensors",
        "initial.num_batches=20",
    ];
    let text = place.fails("generate_initial", &settings, 1);
    let batches = small.join("x.checkpoint").exists();
    Command::new("umount").arg(&small).status().unwrap();
    says(
        &text,
        &["small/x.safetensors", "No space left", "bytes", "df -h"],
    );
    assert!(!batches);
}

/// The limit lets each batch be saved, but not all of them in one file.
#[test]
fn a_result_that_cannot_be_written_at_last_says_how_to_go_on() {
    let place = made("train_teachers");
    let run = |limit: &str, more: &[&str]| {
        let script = format!(
            "ulimit -f {limit}; exec {} \"$@\"",
            assert_cmd::cargo::cargo_bin("generate_initial").display()
        );
        let output = Command::new("sh")
            .args(["-c", &script, "sh"])
            .args(TINY)
            .args(["initial.num_batches=12", "tensorboard=false"])
            .args(more)
            .current_dir(place.path("."))
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = run("80", &[]);
    assert_eq!(code, Some(1), "{text}");
    says(
        &text,
        &[
            "initial.safetensors",
            "File too large",
            "checkpoint: initial.checkpoint",
            "resume=true",
        ],
    );
    let command = text
        .lines()
        .find_map(|line| line.split_once("checkpoint: ")?.1.strip_prefix('/'));
    let command = format!("/{}", command.expect("the command is on the line"));
    let status = Command::new("sh")
        .args(["-c", &command])
        .current_dir(place.path("."))
        .status();
    assert!(status.unwrap().success(), "{command}");
    assert!(place.path("initial.safetensors").exists());
}

/// A shell leaves `~` as it is behind `key=`, and a folder of that name was made.
#[test]
fn the_home_folder_is_meant_by_a_tilde() {
    let place = Place::new();
    let run = |path: &str| {
        assert_cmd::Command::new(assert_cmd::cargo::cargo_bin("split_data"))
            .current_dir(place.path("."))
            .env("HOME", place.path("home"))
            .args(TINY)
            .arg(format!("split.save_path={path}"))
            .output()
            .unwrap()
    };
    assert!(run("~/out/split.json").status.success());
    assert!(place.path("home/out/split.json").exists());
    assert!(!place.path("~").exists());
    let output = run("~somebody/split.json");
    assert_eq!(output.status.code(), Some(2));
    says(
        &String::from_utf8(output.stderr).unwrap(),
        &["split.save_path", "somebody"],
    );
    assert!(!place.path("~somebody").exists());
}
