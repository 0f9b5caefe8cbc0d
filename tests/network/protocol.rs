//! What a server answers to clients that behave, and to connections that do not.

use super::support::{Folder, Host, answer, head, piece, teacher, until};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fed_distill::network::client::{Remote, Settings};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Two clients send their teachers with `join`; the server lays them out as they were.
#[test]
fn join_uploads() {
    let folder = Folder::new(2);
    let host = folder.serve(&[]);
    let files = [1, 2].map(|seed| {
        let bytes = teacher(seed);
        (folder.file(&format!("{seed}.safetensors"), &bytes), bytes)
    });
    let names = ["first", "second"];
    for ((file, _), name) in files.iter().zip(names) {
        let output = host
            .join(&folder.client(name), file, &["--no-wait"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", super::support::said(&output));
    }
    until(|| folder.path("teachers/clients.json").exists());
    for (index, (_, bytes)) in files.iter().enumerate() {
        let path = folder.path(&format!("teachers/model_teacher{index}.safetensors"));
        assert_eq!(&std::fs::read(path).unwrap(), bytes);
    }
    let list = std::fs::read_to_string(folder.path("teachers/clients.json")).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!([&list[0]["client"], &list[1]["client"]], names);
    // Nothing of the uploads is left, and nothing secret is in the log.
    assert_eq!(
        std::fs::read_dir(folder.path("uploads")).unwrap().count(),
        0
    );
    assert!(!folder.log().contains("fd_"), "{}", folder.log());
}

/// A connection that ends after each sixteenth of the body: the offset is what was sent, and the
/// upload resumes from there.
#[test]
fn cut_anywhere() {
    let folder = Folder::new(2);
    let host = folder.serve(&[]);
    let (token, bytes) = (folder.client("a"), teacher(1));
    host.enrol(&token, 100);
    let place = host.open(&token, &bytes);
    for sixteenth in 1..=16 {
        let offset = host.offset(&token, &place);
        let end = bytes.len() * sixteenth / 16;
        let rest = &bytes[offset as usize..];
        let mut stream = host.connect();
        let announced = head(&token, "PATCH", &place, &piece(offset, rest.len()));
        stream.write_all(announced.as_bytes()).unwrap();
        stream.write_all(&rest[..end - offset as usize]).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        host.until_offset(&token, &place, end as u64);
    }
    // The last acknowledgement was never read.
    assert_eq!(host.outcome(&token, &place)["status"], "accepted");
}

/// The same request twice, and requests out of order.
#[test]
fn repeated_and_reordered() {
    let folder = Folder::new(2);
    let host = folder.serve(&[]);
    let (token, bytes) = (folder.client("a"), teacher(1));
    let half = bytes.len() / 2;
    assert_eq!(host.announce(&token, &bytes).code(), "not_enrolled");
    assert_eq!(host.enrol(&token, 100).json(), json!({"index": 0}));
    assert_eq!(host.enrol(&token, 100).json(), json!({"index": 0}));
    let place = host.open(&token, &bytes);
    let again = host.announce(&token, &bytes);
    assert_eq!((again.status, &again.headers["location"]), (200, &place));

    let early = host.patch(&token, &place, half as u64, &bytes[half..]);
    assert_eq!((early.status, early.offset()), (409, 0));
    assert_eq!(host.patch(&token, &place, 0, &bytes[..half]).status, 204);
    let twice = host.patch(&token, &place, 0, &bytes[..half]);
    assert_eq!((twice.status, twice.offset()), (409, half as u64));
    assert_eq!(
        host.patch(&token, &place, half as u64, &bytes[half..])
            .status,
        202
    );
    assert_eq!(host.outcome(&token, &place)["status"], "accepted");

    // A client that never read the answers comes back.
    let again = host.announce(&token, &bytes);
    assert_eq!(
        (again.status, again.json()["status"].as_str()),
        (200, Some("accepted"))
    );
    assert_eq!(again.offset(), bytes.len() as u64);
    let other = host.announce(&token, &teacher(2));
    assert_eq!(
        (other.status, other.code().as_str()),
        (409, "other_accepted")
    );
    assert_eq!(host.enrol(&token, 200).status, 409);
    // A piece without bytes leaves no file.
    let empty = host.patch(&token, &place, bytes.len() as u64, &[]);
    assert!(empty.status < 300, "{empty:?}");
    let parts = std::fs::read_dir(folder.path("uploads")).unwrap();
    assert_eq!(parts.count(), 0);
}

/// A second writer takes the upload over from one whose connection hangs, which is told so.
#[test]
fn newest_writer_wins() {
    let folder = Folder::new(2);
    let host = folder.serve(&[]);
    let (token, bytes) = (folder.client("a"), teacher(1));
    host.enrol(&token, 100);
    let place = host.open(&token, &bytes);
    let half = bytes.len() / 2;
    let mut hanging = host.connect();
    let announced = head(&token, "PATCH", &place, &piece(0, bytes.len()));
    hanging.write_all(announced.as_bytes()).unwrap();
    hanging.write_all(&bytes[..half]).unwrap();
    host.until_offset(&token, &place, half as u64);
    assert_eq!(
        host.patch(&token, &place, half as u64, &bytes[half..])
            .status,
        202
    );
    let mut told = Vec::new();
    let _ = hanging.read_to_end(&mut told);
    assert_eq!(answer(&told).unwrap().status, 423);
    assert_eq!(host.outcome(&token, &place)["status"], "accepted");
}

/// Another file in place of one that was not complete: the earlier upload is gone.
#[test]
fn other_content_replaces_an_open_upload() {
    let folder = Folder::new(2);
    let host = folder.serve(&[]);
    let (token, first, second) = (folder.client("a"), teacher(1), teacher(2));
    host.enrol(&token, 100);
    let place = host.open(&token, &first);
    assert_eq!(host.patch(&token, &place, 0, &first[..1000]).status, 204);
    assert_eq!(host.upload(&token, &second)["status"], "accepted");
    assert_eq!(host.get(&token, &place).status, 404);
}

/// What a client may see and do, and what a host.
#[test]
fn access() {
    let folder = Folder::new(2);
    let (one, other, admin) = (folder.client("a"), folder.client("b"), folder.admin());
    let host = folder.serve(&[]);
    let bytes = teacher(1);
    host.enrol(&one, 100);
    host.enrol(&other, 100);
    let place = host.open(&one, &bytes);
    for method in ["GET", "HEAD"] {
        assert_eq!(host.request(&other, method, &place, &[], b"").status, 404);
    }
    assert_eq!(host.patch(&other, &place, 0, &bytes).status, 404);
    // Who announces another's hash has to send the bytes all the same.
    assert_eq!(host.patch(&one, &place, 0, &bytes).status, 202);
    assert_eq!(host.outcome(&one, &place)["status"], "accepted");
    let announced = host.announce(&other, &bytes);
    assert_eq!((announced.status, announced.offset()), (201, 0));

    for path in ["/", "/metrics", "/v1/admin/clients"] {
        assert_eq!(host.get(&one, path).status, 403, "{path}");
        assert_eq!(host.get(&admin, path).status, 200, "{path}");
    }
    assert_eq!(host.get(&admin, "/v1/next").status, 403);
    assert_eq!(host.get(&one, "/v1/result").code(), "not_ready");
    assert_eq!(host.get("", "/healthz").status, 200);
    assert_eq!(host.get("", "/readyz").status, 200);
    assert_eq!(host.get(&one, "/v1/nothing").status, 404);
    let wrong = host.request(&one, "DELETE", "/v1/task", &[], b"");
    assert_eq!(
        (wrong.status, wrong.headers["allow"].as_str()),
        (405, "GET")
    );
    // A browser asks for a password, and then adds it to every request, whichever page makes it.
    let asked = host.get("", "/");
    assert!(
        asked.headers["www-authenticate"].starts_with("Basic "),
        "{asked:?}"
    );
    let password = BASE64_STANDARD.encode(format!("host:{admin}"));
    let from_browser = |request: &str| {
        let head = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: Basic {password}\r\n\r\n"
        );
        answer(&host.raw(head.as_bytes())).unwrap().status
    };
    assert_eq!(from_browser("GET /"), 200);
    assert_eq!(from_browser("POST /v1/admin/close"), 401);
}

/// A list of clients that cannot be read locks nobody out, and is read again; a damaged one lets
/// nobody in.
#[test]
fn unreadable_clients() {
    let folder = Folder::new(2);
    let token = folder.client("a");
    let host = folder.serve(&[]);
    let status = || host.get(&token, "/v1/task").status;
    let (list, aside) = (folder.path("clients.json"), folder.path("aside.json"));
    std::fs::rename(&list, &aside).unwrap();
    assert_eq!(status(), 200);
    std::fs::create_dir(&list).unwrap();
    assert_eq!(status(), 200);
    std::fs::remove_dir(&list).unwrap();
    std::fs::write(&list, "[").unwrap();
    assert_eq!(status(), 401);
    std::fs::rename(&aside, &list).unwrap();
    assert_eq!(status(), 200);
}

/// A client that sends the bytes of a piece counts as calling: in rounds it has a lease.
#[test]
fn a_piece_is_a_sign_of_life() {
    let folder = Folder::new(2);
    let (token, admin) = (folder.client("a"), folder.admin());
    let host = folder.serve(&[]);
    host.enrol(&token, 100);
    let bytes = teacher(1);
    let place = host.open(&token, &bytes);
    let mut stream = host.connect();
    let begun = head(&token, "PATCH", &place, &piece(0, bytes.len()));
    stream.write_all(begun.as_bytes()).unwrap();
    stream.write_all(&bytes[..10]).unwrap();
    host.until_offset(&token, &place, 10);
    let seen = || host.get(&admin, "/v1/admin/clients").json()[0]["seen"].clone();
    let first = seen();
    assert!(first.is_i64(), "{first}");
    until(|| seen() != first);
}

/// Whoever has no valid token keeps no connection: a few would take the places of all clients.
#[test]
fn strangers_keep_no_connection() {
    let folder = Folder::new(2);
    let token = folder.client("a");
    let host = folder.serve(&[]);
    for (token, path, kept) in [
        ("none", "/healthz", false),
        ("none", "/v1/task", false),
        ("none", "/nowhere", false),
        (&token, "/v1/task", true),
    ] {
        let mut stream = host.connect();
        let asked = head(token, "GET", path, &[]).replace("Connection: close\r\n", "");
        stream.write_all(asked.as_bytes()).unwrap();
        stream.write_all(asked.as_bytes()).unwrap();
        let second = Duration::from_secs(1);
        stream.set_read_timeout(Some(second)).unwrap();
        let mut answers = Vec::new();
        let ended = stream.read_to_end(&mut answers);
        let count = String::from_utf8_lossy(&answers)
            .matches("HTTP/1.1 ")
            .count();
        assert_eq!(ended.is_err(), kept, "{path}");
        assert_eq!(count, if kept { 2 } else { 1 }, "{path}");
    }
}

/// A page in place of the file, as a proxy answers, is not asked for without a pause, nor for ever.
#[test]
fn a_page_instead_of_the_result() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 4096]);
            let page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsorry";
            let _ = stream.write_all(page);
        }
    });
    let remote = Remote::new(Settings {
        server,
        token: "fd_any".into(),
        authority: None,
        identity: None,
        insecure: false,
        first_wait: Duration::from_millis(20),
        patience: Duration::from_millis(500),
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.safetensors");
    let fetched = remote.unwrap().fetch(&path, &"0".repeat(64), 1000);
    let error = fetched.unwrap_err().to_string();
    assert!(error.contains("sent less than 1000 bytes"), "{error}");
    assert!(!path.exists());
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked < 20, "asked {asked} times");
}

/// Wrong tokens are refused, and after ten a minute only counted; a right one still works.
#[test]
fn wrong_tokens() {
    let folder = Folder::new(2);
    let token = folder.client("a");
    let host = folder.serve(&[]);
    for _ in 0..10 {
        assert_eq!(host.get("fd_wrong", "/v1/task").status, 401);
    }
    let limited = host.get("fd_wrong", "/v1/task");
    assert_eq!(limited.status, 429);
    assert!(limited.headers.contains_key("retry-after"));
    assert_eq!(host.get(&token, "/v1/task").status, 200);
}

/// A token that is revoked while its client sends: the upload ends, and the next call is refused.
/// The name is free again, and what its first holder had does not belong to the second.
#[test]
fn revoked_in_the_middle() {
    let folder = Folder::new(2);
    let host = folder.serve(&[]);
    let (token, bytes) = (folder.client("a"), teacher(1));
    host.enrol(&token, 100);
    let place = host.open(&token, &bytes);
    let mut stream = host.connect();
    let announced = head(&token, "PATCH", &place, &piece(0, bytes.len()));
    stream.write_all(announced.as_bytes()).unwrap();
    stream.write_all(&bytes[..100]).unwrap();
    host.until_offset(&token, &place, 100);
    assert!(
        super::support::run("serve", &["client", "revoke", folder.text(), "a"])
            .status
            .success()
    );
    // The token is looked at as long as bytes come.
    let short = std::time::Duration::from_millis(20);
    stream.set_read_timeout(Some(short)).unwrap();
    let (mut sent, mut told) = (100, [0; 16]);
    until(|| {
        sent += 1;
        let _ = stream.write_all(&bytes[sent - 1..sent]);
        stream.read(&mut told).is_ok()
    });
    assert!(told.starts_with(b"HTTP/1.1 401"), "{told:?}");
    assert_eq!(host.get(&token, "/v1/next").status, 401);
    let token = folder.client("a");
    assert_eq!(host.get(&token, "/v1/next").json()["action"], "enrol");
}

/// `next` waits for a change, and names what is missing.
#[test]
fn next_and_closing() {
    let folder = Folder::with(&["--clients", "3", "--min-clients", "2"]);
    let host = folder.serve(&[]);
    let tokens = ["a", "b", "c"].map(|name| folder.client(name));
    let admin = folder.admin();
    assert_eq!(host.get(&tokens[0], "/v1/next").json()["action"], "enrol");
    host.enrol(&tokens[0], 100);
    assert_eq!(host.get(&tokens[0], "/v1/next").json()["action"], "upload");
    assert_eq!(host.upload(&tokens[0], &teacher(1))["status"], "accepted");
    let close =
        |host: &super::support::Host| host.request(&admin, "POST", "/v1/admin/close", &[], b"");
    let few = close(&host);
    assert_eq!(few.status, 409);
    assert!(
        few.json()["message"]
            .as_str()
            .unwrap()
            .contains("missing: b, c"),
        "{few:?}"
    );
    let news = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host.get(&tokens[0], "/v1/next?wait=60").json());
        host.enrol(&tokens[1], 100);
        assert_eq!(host.upload(&tokens[1], &teacher(2))["status"], "accepted");
        assert_eq!(close(&host).status, 200);
        waiting.join().unwrap()
    });
    assert_eq!(news["action"], "wait");
    until(|| folder.path("teachers/clients.json").exists());
    assert_eq!(host.enrol(&tokens[2], 100).status, 409);
    assert_eq!(close(&host).status, 409);
    let late = host.announce(&tokens[2], &teacher(3));
    assert_eq!(late.status, 409, "{late:?}");
}

/// At the deadline the server continues with enough uploads; with fewer it fails, and says who was
/// missing; another start resumes.
#[test]
fn deadline() {
    let few = ["--clients", "2", "--min-clients", "1"];
    let folder = Folder::with(&[&few[..], &["--extension-hours", "0"]].concat());
    let path = folder.path("task.json");
    let mut task: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    task["deadline"] = json!("2001-01-01T00:00:00Z");
    std::fs::write(&path, task.to_string()).unwrap();
    let (token, _late) = (folder.client("a"), folder.client("late"));
    let host = folder.serve(&[]);
    until(|| host.get(&token, "/v1/next").json()["action"] == "failed");
    let message = host.get(&token, "/v1/next").json()["message"].to_string();
    assert!(message.contains("missing: a, late"), "{message}");
    drop(host);

    // The deadline is not part of what clients agree on.
    task["deadline"] = serde_json::Value::Null;
    std::fs::write(&path, task.to_string()).unwrap();
    let host = folder.serve(&[]);
    host.enrol(&token, 100);
    assert_eq!(host.upload(&token, &teacher(1))["status"], "accepted");
    drop(host);

    task["deadline"] = json!("2001-01-01T00:00:00Z");
    std::fs::write(&path, task.to_string()).unwrap();
    let host = folder.serve(&[]);
    until(|| folder.path("teachers/model_teacher0.safetensors").exists());
    assert!(folder.log().contains("missing: late"), "{}", folder.log());
    drop(host);
}

/// Too few uploads move the deadline; one that the host sets after that holds if it is later.
#[test]
fn later_deadline() {
    let folder = Folder::with(&["--clients", "1", "--extension-hours", "1"]);
    let path = folder.path("task.json");
    let mut task: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let token = folder.client("a");
    let mut served = |deadline: &str| {
        task["deadline"] = json!(deadline);
        std::fs::write(&path, task.to_string()).unwrap();
        folder.serve(&[])
    };
    let told = |host: &Host| host.get(&token, "/v1/next").json()["deadline"].as_i64();
    let host = served("2001-01-01T00:00:00Z");
    let soon = jiff::Timestamp::now().as_second() + 3000;
    until(|| told(&host).is_some_and(|deadline| deadline > soon));
    drop(host);
    assert_eq!(told(&served("2101-01-01T00:00:00Z")), Some(4_133_980_800));
}
