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
