//! A server that is killed at any moment, and started again on the same folder.

use super::support::{Folder, Host, head, piece, run, said, teacher, until};
use std::io::Write;

/// Killed after each step of the journal, and in the middle of the bytes: nothing that was answered
/// is lost, and nothing is there twice.
#[test]
fn each_step() {
    let folder = Folder::new(1);
    let (token, bytes) = (folder.client("a"), teacher(1));
    let again = |host: Host| {
        host.crash();
        folder.serve(&[])
    };
    let host = again(folder.serve(&[]));
    host.enrol(&token, 100);
    let host = again(host);
    assert_eq!(host.get(&token, "/v1/next").json()["action"], "upload");
    let place = host.open(&token, &bytes);
    let host = again(host);
    assert_eq!(host.offset(&token, &place), 0);
    let half = bytes.len() / 2;
    assert_eq!(host.patch(&token, &place, 0, &bytes[..half]).status, 204);
    let host = again(host);
    assert_eq!(host.offset(&token, &place), half as u64);
    let mut stream = host.connect();
    let rest = head(
        &token,
        "PATCH",
        &place,
        &piece(half as u64, bytes.len() - half),
    );
    stream.write_all(rest.as_bytes()).unwrap();
    stream.write_all(&bytes[half..half + 777]).unwrap();
    host.until_offset(&token, &place, half as u64 + 777);
    let host = again(host);
    assert_eq!(host.offset(&token, &place), half as u64 + 777);
    assert_eq!(host.announce(&token, &bytes).headers["location"], place);
    assert_eq!(
        host.patch(&token, &place, half as u64 + 777, &bytes[half + 777..])
            .status,
        202
    );
    // It may be checked now or after the crash.
    let host = again(host);
    assert_eq!(host.outcome(&token, &place)["status"], "accepted");
    let host = again(host);
    until(|| folder.path("teachers/clients.json").exists());
    assert_eq!(host.outcome(&token, &place)["status"], "accepted");
    let teacher0 = std::fs::read(folder.path("teachers/model_teacher0.safetensors")).unwrap();
    assert!(teacher0 == bytes);
}

/// What a crash between two steps of accepting leaves: the bytes without the event, with and
/// without the file in `blobs`.
#[test]
fn between_check_and_event() {
    for has_blob in [false, true] {
        let folder = Folder::new(2);
        let (token, bytes) = (folder.client("a"), teacher(1));
        let host = folder.serve(&[]);
        host.enrol(&token, 100);
        let place = host.open(&token, &bytes);
        host.crash();
        let id = place.rsplit('/').next().unwrap();
        folder.file(&format!("uploads/{id}.part"), &bytes);
        folder.file("uploads/stray.part", b"of an upload that was given up");
        if has_blob {
            let sha256 = fed_distill::artifact::hash::bytes(&bytes);
            folder.file(&format!("blobs/{sha256}"), &bytes);
        }
        let host = folder.serve(&[]);
        assert_eq!(host.outcome(&token, &place)["status"], "accepted");
        until(|| std::fs::read_dir(folder.path("uploads")).unwrap().count() == 0);
    }
}

/// What was complete before the deadline counts, though the server was killed before the check and
/// starts after the deadline.
#[test]
fn complete_before_the_deadline() {
    let folder = Folder::with(&["--clients", "3", "--min-clients", "1"]);
    let tokens = ["a", "b"].map(|name| folder.client(name));
    let host = folder.serve(&[]);
    for token in &tokens {
        host.enrol(token, 100);
    }
    assert_eq!(host.upload(&tokens[0], &teacher(1))["status"], "accepted");
    let bytes = teacher(2);
    let place = host.open(&tokens[1], &bytes);
    host.crash();
    let id = place.rsplit('/').next().unwrap();
    folder.file(&format!("uploads/{id}.part"), &bytes);
    let path = folder.path("task.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut task: serde_json::Value = serde_json::from_str(&text).unwrap();
    task["deadline"] = serde_json::json!("2001-01-01T00:00:00Z");
    std::fs::write(&path, task.to_string()).unwrap();
    let host = folder.serve(&[]);
    assert_eq!(host.outcome(&tokens[1], &place)["status"], "accepted");
    until(|| folder.path("teachers/clients.json").exists());
    assert!(folder.path("teachers/model_teacher1.safetensors").exists());
}

/// `join` continues over a server that is killed at moments that nobody chose.
#[test]
fn join_over_crashes() {
    let folder = Folder::new(4);
    let mut host = folder.serve(&[]);
    let port = host.address.rsplit(':').next().unwrap().to_owned();
    let tokens = ["a", "b", "c", "d"].map(|name| folder.client(name));
    let mut kills = 0;
    for (seed, token) in tokens.iter().enumerate() {
        let bytes = teacher(seed as u64 + 1);
        let file = folder.file(&format!("{seed}.safetensors"), &bytes);
        let mut join = host.join(token, &file, &["--no-wait"]).spawn().unwrap();
        for step in 0..4 {
            // Unlike in each run, and over the whole of it.
            let nap = (kills * 37 + step * 61) % 150;
            std::thread::sleep(std::time::Duration::from_millis(nap));
            host.crash();
            kills += 1;
            host = folder.serve(&["--listen", &format!("127.0.0.1:{port}")]);
        }
        assert!(join.wait().unwrap().success(), "{}", folder.log());
    }
    until(|| folder.path("teachers/clients.json").exists());
    for index in 0..tokens.len() {
        let path = folder.path(&format!("teachers/model_teacher{index}.safetensors"));
        assert!(std::fs::read(path).unwrap() == teacher(index as u64 + 1));
    }
}

/// Half a line at the end is what a crash leaves: it is dropped, with a warning. Damage elsewhere
/// ends the start, and names the line.
#[test]
fn damaged_journal() {
    let folder = Folder::new(2);
    let token = folder.client("a");
    let host = folder.serve(&[]);
    host.enrol(&token, 100);
    host.crash();
    let path = folder.path("journal.jsonl");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole, &whole[..40]].concat()).unwrap();
    let host = folder.serve(&[]);
    assert_eq!(host.get(&token, "/v1/next").json()["action"], "upload");
    assert!(folder.log().contains("half a line"), "{}", folder.log());
    drop(host);
    assert_eq!(std::fs::read(&path).unwrap(), whole);

    let text = String::from_utf8(whole)
        .unwrap()
        .replacen("began", "bogan", 1);
    std::fs::write(&path, &text).unwrap();
    let (code, errors) = folder.refused();
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains("journal.jsonl:1") && errors.contains("hint: "),
        "{errors}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

/// Two servers on one folder would overwrite each other's work.
#[test]
fn second_server() {
    let folder = Folder::new(2);
    let _host = folder.serve(&[]);
    let (code, errors) = folder.refused();
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains("another `serve` has the folder"),
        "{errors}"
    );
}

/// A folder that was begun with one task takes no other.
#[test]
fn other_task() {
    let folder = Folder::new(2);
    drop(folder.serve(&[]));
    let path = folder.path("task.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("0.3", "0.31")).unwrap();
    let (code, errors) = folder.refused();
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("was begun with another task"), "{errors}");
    // Nor does `serve task` write one over it, which would lose what was begun.
    let words = ["task", folder.text(), "--overwrite", "--clients", "2"];
    let output = run("serve", &[&words[..], &["dataset=digits"]].concat());
    let errors = said(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("a folder of its own"), "{errors}");
}
