//! Disks that are full and folders that cannot be written: an error that names the file and says
//! what to do, what was good stays, and with room again the run resumes.

use super::{STAGES, results, says};
use crate::common::{Place, TINY};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system, gone when dropped.
struct Small(PathBuf);

impl Small {
    /// `None` for users who may not mount one.
    fn mount(folder: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&folder).unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&folder)
            .output();
        output
            .is_ok_and(|output| output.status.success())
            .then_some(Self(folder))
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Everything goes below `small/`.
const BELOW: [&str; 6] = [
    "split.save_path=small/split.json",
    "teacher.save_folder=small/teachers",
    "initial.save_path=small/initial.safetensors",
    "student.save_folder=small/student",
    "student.new_batches_per_epoch=1",
    "checkpoint.every=0",
];

#[test]
fn full_disk_stops_and_room_resumes() {
    let reference = Place::new();
    for stage in STAGES {
        reference.ok(stage, &BELOW);
    }
    let place = Place::new();
    let Some(small) = Small::mount(place.path("small"), "size=64k") else {
        println!(
            "only root can mount a small file system; `a_limit_on_file_sizes_is_an_error` shows \
             the rest"
        );
        return;
    };
    let (mut full, mut size) = (0, 64);
    for stage in STAGES {
        // A little more room each time, until the stage fits.
        loop {
            let (code, _, errors) =
                place.run_with(stage, TINY, &[&BELOW[..], &["resume=true"]].concat());
            if code == 0 {
                break;
            }
            says(
                &errors,
                &[
                    "error: ",
                    "small/",
                    "No space left",
                    "hint: free some space",
                ],
            );
            assert!(
                code == 1 && size < 10_000 && !errors.contains("panicked"),
                "{errors}"
            );
            full += 1;
            size = size * 5 / 4;
            small.remount(&format!("size={size}k"));
        }
    }
    assert!(full >= 4, "the disk was full only {full} times");
    assert_eq!(
        results(&reference.path("small")),
        results(&place.path("small"))
    );
}

#[test]
fn a_limit_on_file_sizes_is_an_error() {
    let place = Place::new();
    place.ok("split_data", &[]);
    // As a quota would; the shell's `ulimit -f` needs no rights. The signal that comes with the
    // limit would end the process.
    let script = format!(
        "ulimit -f 2; exec {} \"$@\"",
        assert_cmd::cargo::cargo_bin("train_teachers").display()
    );
    let output = Command::new("sh")
        .args(["-c", &script, "sh"])
        .args(TINY)
        .args(["model.width=16", "checkpoint.every=0"])
        .current_dir(place.path("."))
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    says(&errors, &["teachers/", "File too large", "hint: "]);
    assert!(!place.path("teachers/model_teacher0.safetensors").exists());
    place.ok("train_teachers", &["model.width=16", "resume=true"]);
}

/// Makes a folder read-only for this user, root included; undone when the guard goes.
fn lock_up(folder: &Path) -> Option<Small> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(folder.join("probe"), b"x").is_err() {
        return None;
    }
    std::fs::remove_file(folder.join("probe")).unwrap();
    let bound = |options: &[&str]| {
        Command::new("mount")
            .args(options)
            .arg(folder)
            .arg(folder)
            .status()
            .unwrap()
            .success()
    };
    assert!(
        bound(&["--bind"]),
        "root without the right to mount: run the tests as a user"
    );
    let guard = Small(folder.to_path_buf());
    guard.remount("bind,ro");
    Some(guard)
}

/// The error names it.
#[test]
fn read_only_folder_keeps_its_files() {
    let place = Place::new();
    for stage in STAGES {
        place.ok(stage, &[]);
    }
    for (stage, folder) in [("train_student", "student"), ("train_teachers", "teachers")] {
        let before = results(&place.path("."));
        let guard = lock_up(&place.path(folder));
        let errors = place.fails(stage, &["overwrite=true"], 1);
        says(&errors, &[folder, "hint: "]);
        assert!(
            errors.contains("ead-only file system") || errors.contains("ermission denied"),
            "{errors}"
        );
        // What is finished can still be recognised.
        place.ok(stage, &["resume=true"]);
        drop(guard);
        std::fs::set_permissions(place.path(folder), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        assert_eq!(before, results(&place.path(".")));
    }
}
