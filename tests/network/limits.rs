//! Disks that are full, and folders that cannot be used: what was acknowledged stays.

use super::support::{Folder, run, said, teacher};

/// A file that cannot grow: the client is told, what fitted is kept, and the upload resumes when
/// there is space again.
#[test]
fn full_disk() {
    let folder = Folder::new(2);
    let (token, bytes) = (folder.client("a"), teacher(1));
    let host = folder.serve_limited(40);
    host.enrol(&token, 100);
    let place = host.open(&token, &bytes);
    let full = host.patch(&token, &place, 0, &bytes);
    let told = (full.status, full.code());
    assert_eq!(told, (507, "disk_full".into()), "{}", folder.log());
    let kept = host.offset(&token, &place);
    assert!(kept > 0 && kept < bytes.len() as u64, "{kept}");
    assert_eq!(host.get(&token, "/v1/next").json()["action"], "upload");
    drop(host);
    let host = folder.serve(&[]);
    assert_eq!(host.offset(&token, &place), kept);
    let rest = &bytes[kept as usize..];
    assert_eq!(host.patch(&token, &place, kept, rest).status, 202);
    assert_eq!(host.outcome(&token, &place)["status"], "accepted");
}

/// A journal that cannot grow: nothing is acknowledged that it does not hold.
#[test]
fn full_journal() {
    let folder = Folder::new(2);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let tokens = names.map(|name| folder.client(name));
    // Room for the first line and a few more.
    let host = folder.serve_limited(2);
    let answers = tokens.each_ref().map(|token| host.enrol(token, 100).status);
    assert_eq!(answers.first(), Some(&200), "{answers:?}");
    assert_eq!(answers.last(), Some(&507), "{answers:?}");
    drop(host);
    let host = folder.serve(&[]);
    for (token, status) in tokens.iter().zip(answers) {
        let action = host.get(token, "/v1/next").json()["action"].clone();
        let wanted = if status == 200 { "upload" } else { "enrol" };
        assert_eq!(action, wanted, "{answers:?}");
    }
}

/// A folder without a task, one with a file in the way, and an address that is taken.
#[test]
fn cannot_start() {
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    let output = run("serve", &["run", path, "--listen", "127.0.0.1:0"]);
    let errors = said(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("`serve task"), "{errors}");
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);

    let (one, other) = (Folder::new(2), Folder::new(2));
    let host = one.serve(&[]);
    let arguments = ["run", other.text(), "--collect-only"];
    let output = run(
        "serve",
        &[&arguments[..], &["--listen", &host.address]].concat(),
    );
    let errors = said(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains(&host.address) && errors.contains("--listen"),
        "{errors}"
    );

    let blocked = Folder::new(2);
    blocked.file("uploads", b"a file where a folder belongs");
    let (code, errors) = blocked.refused();
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains(blocked.path("uploads").to_str().unwrap()),
        "{errors}"
    );
}
