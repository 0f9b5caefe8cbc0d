//! What hosts and parties type wrong: told before anything else happens.

use super::support::{Folder, run, said};

#[test]
fn of_hosts() {
    let folder = Folder::new(1);
    let elsewhere = folder.path("nofolder");
    let output = run(
        "serve",
        &["client", "add", elsewhere.to_str().unwrap(), "bob"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("is no folder of a server"));
    assert!(!elsewhere.exists());
    let output = run("serve", &["client", "ad", elsewhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said_all = said(&output);
    assert!(
        said_all.contains("`serve client` has no subcommand `ad`"),
        "{said_all}"
    );
    assert!(said_all.contains("add, revoke, list"), "{said_all}");
    assert!(
        said_all.contains("did you mean `serve client add`?"),
        "{said_all}"
    );
    // A typo in what the stages will be told, before anybody uploads.
    let place = folder.path(".");
    let output = run(
        "serve",
        &["run", place.to_str().unwrap(), "student.epoch=5"],
    );
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("`student.epochs`"));
    // Test images of another task, and what the server sets itself.
    for (arguments, words) in [
        (
            &["dataset=digits", "dataset.size=32"][..],
            &["another task", "image shape", "`dataset=none`"][..],
        ),
        (
            &["dataset=none", "student.save_folder=elsewhere"],
            &["sets `student.save_folder=elsewhere` itself"],
        ),
    ] {
        let output = run("serve", &[&["run", folder.text()], arguments].concat());
        assert!(!output.status.success());
        for words in words {
            assert!(said(&output).contains(words), "{}", said(&output));
        }
        assert!(!said(&output).contains("listening"));
    }
}

/// What a task has nothing of, and a deadline that nobody can keep.
#[test]
fn of_tasks() {
    let folder = Folder::new(1);
    let place = folder.path("task");
    let task = [
        "task",
        place.to_str().unwrap(),
        "--clients",
        "3",
        "dataset=digits",
    ];
    let past = ["--deadline", "2001-01-01T00:00:00Z"];
    let output = run("serve", &[&task[..], &past].concat());
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for words in ["is in the past", "2001-01-01T00:00:00Z", "UTC"] {
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    assert!(!place.exists());
    for (arguments, words) in [
        (
            &["teacher.epochs=5"][..],
            &["nothing of `teacher.epochs=5`", "dataset, model.", "`join`"][..],
        ),
        (
            &["--algorithm", "fed_avg", "fed_md.rounds=5"],
            &["nothing of `fed_md.rounds=5`", "fed_avg, seed, precision"],
        ),
    ] {
        let output = run("serve", &[&task, arguments, &["--overwrite"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        for words in words {
            assert!(said(&output).contains(words), "{}", said(&output));
        }
    }
    // A choice sets keys of many groups.
    let output = run(
        "serve",
        &[&task[..4], &["+experiment=demo", "--overwrite"]].concat(),
    );
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("nothing of"), "{}", said(&output));
}

/// The file is looked at before the server is called, which does not answer here.
#[test]
fn of_parties() {
    let folder = Folder::new(1);
    let token = folder.file("token", b"fd_1");
    let missing = folder.path("missing.safetensors");
    let output = run(
        "join",
        &[
            "upload",
            "http://127.0.0.1:9",
            missing.to_str().unwrap(),
            "--token-file",
            token.to_str().unwrap(),
        ],
    );
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("No such file"));
}
