//! Runs that are stopped: killed, interrupted, out of disk, shut out. Whatever happens, what was
//! good stays, and `resume=true` ends with the bytes of a run that was never stopped.

mod disk;
mod interrupt;
mod kill;
mod methods;
mod moved;
mod refuse;

use crate::common::{Place, TINY, signals};
use fed_distill::artifact::hash;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const STAGES: [&str; 4] = [
    "split_data",
    "train_teachers",
    "generate_initial",
    "train_student",
];

/// The content of every file below `folder` that a resumed run must repeat: all but manifests,
/// logs, events, and the command line.
fn results(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(folder, "", &mut found);
    found
}

fn collect(folder: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let timed =
            name.contains("manifest") || name.ends_with(".log") || name.contains("tfevents");
        let own = name.contains("hydra") || name.ends_with(".tmp");
        if path.is_dir() && !own {
            collect(&path, &format!("{prefix}{name}/"), found);
        } else if !timed && !own {
            found.insert(format!("{prefix}{name}"), hash::file(&path).unwrap().1);
        }
    }
}

/// A stage to be started, with its stderr for us to read.
fn command(place: &Place, stage: &str, more: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin(stage));
    signals::heard(&mut command)
        .current_dir(place.path("."))
        .args(TINY)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// A stage in a process of its own, still running.
fn start(place: &Place, stage: &str, more: &[&str]) -> Child {
    command(place, stage, more).spawn().unwrap()
}

/// Removes what a stage left, so that it can be stopped again.
fn forget(place: &Place, stage: &str) {
    let stem = match stage {
        "split_data" => "split.",
        "train_teachers" => "teachers",
        "generate_initial" => "initial.",
        _ => "student",
    };
    for entry in std::fs::read_dir(place.path(".")).unwrap() {
        let path = entry.unwrap().path();
        if !path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(stem)
        {
            continue;
        }
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
}

/// Waits until `path` is there; the process must not end before.
fn wait_for(path: &Path, child: &mut Child) {
    while !path.exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended by itself before {}",
            path.display()
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}
