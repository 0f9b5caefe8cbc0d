//! Atomic writes: the old content or the new, whatever goes wrong, and errors that say what to do.

use crate::common::child;
use fed_distill::Error;
use fed_distill::artifact::{atomic, hash};
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn content_replaces_content_and_folders_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/file.txt");
    atomic::write(&path, b"one").unwrap();
    atomic::write(&path, b"two").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(names(path.parent().unwrap()), ["file.txt"]);
}

/// It leaves nothing else in the folder.
#[test]
fn failed_write_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.txt");
    atomic::write(&path, b"old").unwrap();
    let error = atomic::write_with(&path, |out| {
        out.write_all(&[1; 100_000])?;
        Err(Error::failed("the loss is NaN"))
    })
    .unwrap_err();
    assert!(
        error.what() == "the loss is NaN" && error.to_string().contains("file.txt"),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["file.txt"]);
}

#[test]
fn killed_write_leaves_the_old_file() {
    if child::is_child() {
        let _ = atomic::write_with(Path::new("file.txt"), |out| {
            out.write_all(b"half of the new")?;
            out.flush()?;
            // SAFETY: the end of this process, as by `kill -9`.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            Ok(())
        });
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.txt");
    atomic::write(&path, b"old").unwrap();
    let status = child::command(killed_write_leaves_the_old_file)
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    atomic::write(&path, b"new").expect("what the killed process left is not in the way");
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
}

#[test]
fn the_umask_decides_who_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, ordinary) = (folder.path().join("ours"), folder.path().join("ordinary"));
    atomic::write(&ours, b"x").unwrap();
    std::fs::write(&ordinary, b"x").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&ordinary));
}

#[test]
fn a_link_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    std::fs::write(&real, b"old").unwrap();
    symlink(&real, &link).unwrap();
    atomic::write(&link, b"new").unwrap();
    assert!(link.is_symlink());
    assert_eq!(std::fs::read(&real).unwrap(), b"new");
    // So does one to a file that is still to come.
    std::fs::remove_file(&real).unwrap();
    atomic::write(&link, b"first").unwrap();
    assert!(link.is_symlink());
    assert_eq!(std::fs::read(&real).unwrap(), b"first");
    let circle = folder.path().join("circle");
    symlink(&circle, &circle).unwrap();
    atomic::write(&circle, b"x").unwrap();
}

#[test]
fn places_that_cannot_be_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let refusal = |path: &Path| atomic::write(path, b"y").unwrap_err().to_string();

    let text = refusal(folder.path());
    assert!(
        text.contains("it is a folder") && text.contains("hint: "),
        "{text}"
    );
    let text = refusal(&file.join("below/deep.json"));
    assert!(
        text.contains(&format!("`{}` is a file, not a folder", file.display())),
        "{text}"
    );
    let text = refusal(Path::new("/dev/null"));
    assert!(text.contains("neither a file nor a folder"), "{text}");
    let text = refusal(Path::new(""));
    assert!(text.contains("not the name of a file"), "{text}");
    let text = atomic::create_folder(&file).unwrap_err().to_string();
    assert!(text.contains("is a file, not a folder"), "{text}");
}

#[test]
fn folder_without_permission_has_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    for (path, mode) in [(folder.path(), 0o755), (&closed, 0o555)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    // Root may write everywhere; as nobody this thread may not. Without root this changes nothing.
    // SAFETY: sets the identity by which the system judges this thread's file accesses, and only
    // that.
    let user = unsafe { libc::setfsuid(65534) };
    let written = std::fs::write(closed.join("probe"), b"x");
    let refused = atomic::write(&closed.join("file"), b"x");
    let refused_folder = atomic::create_folder(&closed.join("deeper"));
    let refused_log = atomic::append(&closed.join("a.log"));
    // SAFETY: as above, and back.
    unsafe { libc::setfsuid(user as libc::uid_t) };
    if written.is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    for error in [
        refused.unwrap_err(),
        refused_folder.unwrap_err(),
        refused_log.unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(
            text.contains("closed/") && text.contains("hint: choose a place that you may use"),
            "{text}"
        );
    }
}

#[test]
fn a_full_disk_keeps_the_old_file_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(folder.path())
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: this user may not mount a small file system");
        return;
    }
    let path = folder.path().join("file");
    let small = atomic::write(&path, b"old");
    let large = vec![1; 1 << 20];
    let errors = [
        atomic::write(&path, &large),
        atomic::write_with(&path, |out| Ok(out.write_all(&large)?)),
    ];
    let after = std::fs::read(&path);
    let left = names(folder.path());
    Command::new("umount").arg(folder.path()).status().unwrap();

    small.unwrap();
    for error in errors {
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("No space left") && text.matches("hint: free some space").count() == 1,
            "{text}"
        );
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }
    assert_eq!(after.unwrap(), b"old");
    assert_eq!(left, ["file"]);
}

/// Expected values: the examples of FIPS 180-2, `abc` and a million `a`.
#[test]
fn hashes_are_sha256() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    assert_eq!(
        hash::bytes(b"abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let letters = vec![b'a'; 1_000_000];
    atomic::write(&path, &letters).unwrap();
    assert_eq!(hash::file(&path).unwrap(), (1_000_000, million.to_string()));
    // Longer than what is read at a time, and not a multiple of it.
    let long: Vec<u8> = (0..3_000_001_u32).map(|i| (i * 31) as u8).collect();
    atomic::write(&path, &long).unwrap();
    assert_eq!(hash::file(&path).unwrap(), (3_000_001, hash::bytes(&long)));
    assert!(
        hash::file(&folder.path().join("none"))
            .unwrap_err()
            .to_string()
            .contains("none")
    );
}
