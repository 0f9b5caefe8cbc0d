//! The downloader against a server on this machine that answers by script.

use fed_distill::data::download::fetch;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::error::Error as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread::JoinHandle;

/// Answers one connection after another and returns the requests' heads in lower case.
fn server(replies: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/set/file.gz", listener.local_addr().unwrap());
    let handle = std::thread::spawn(move || {
        let mut heads = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map(|line| line.unwrap());
            heads.push(
                lines
                    .take_while(|line| !line.is_empty())
                    .collect::<Vec<_>>()
                    .join("\n")
                    .to_lowercase(),
            );
            stream.write_all(&reply).unwrap();
        }
        heads
    });
    (url, handle)
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn whole(body: &[u8]) -> Vec<u8> {
    reply(
        "200 OK",
        &format!("Content-Length: {}\r\n", body.len()),
        body,
    )
}

fn rest(body: &[u8], from: usize) -> Vec<u8> {
    let headers = format!(
        "Content-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\n",
        body.len() - from,
        body.len() - 1,
        body.len()
    );
    reply("206 Partial Content", &headers, &body[from..])
}

/// Announces all of it and stops half way.
fn cut(body: &[u8], at: usize) -> Vec<u8> {
    reply(
        "200 OK",
        &format!("Content-Length: {}\r\n", body.len()),
        &body[..at],
    )
}

fn body() -> Vec<u8> {
    crate::common::datasets::noise(300_000, 4)
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn silent(_: u64, _: Option<u64>) {}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_file_arrives_whole_with_progress() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file.gz");
    let (url, handle) = server(vec![whole(&body())]);
    let seen = RefCell::new(Vec::new());
    fetch(&url, Some(&sha256(&body())), &to, &|done, total| {
        seen.borrow_mut().push((done, total))
    })
    .unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), body());
    assert_eq!(names(folder.path()), ["file.gz"]);
    assert!(handle.join().unwrap()[0].starts_with("get /set/file.gz http/1.1"));
    let seen = seen.into_inner();
    assert_eq!(seen.first(), Some(&(0, Some(300_000))));
    assert_eq!(seen.last(), Some(&(300_000, Some(300_000))));
    assert!(seen.is_sorted());
}

#[test]
fn a_cut_connection_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file.gz");
    let (url, handle) = server(vec![cut(&body(), 100_000), rest(&body(), 100_000)]);
    fetch(&url, Some(&sha256(&body())), &to, &silent).unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), body());
    let heads = handle.join().unwrap();
    assert!(!heads[0].contains("range:"), "{}", heads[0]);
    assert!(heads[1].contains("range: bytes=100000-"), "{}", heads[1]);
}

#[test]
fn what_an_earlier_call_left_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file.gz");
    let part = folder.path().join("file.gz.part");
    // Servers that resume, that start again, and that refuse the range.
    let refused = reply("416 Range Not Satisfiable", "Content-Length: 0\r\n", b"");
    for replies in [
        vec![rest(&body(), 1000)],
        vec![whole(&body())],
        vec![refused, whole(&body())],
    ] {
        std::fs::write(&part, &body()[..1000]).unwrap();
        let (url, handle) = server(replies);
        fetch(&url, None, &to, &silent).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), body());
        assert!(handle.join().unwrap()[0].contains("range: bytes=1000-"));
        assert_eq!(names(folder.path()), ["file.gz"]);
    }
}

#[test]
fn broken_connections_leave_what_came() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file.gz");
    let (url, handle) = server(vec![cut(&body(), 10); 5]);
    let text = fetch(&url, None, &to, &silent).unwrap_err().to_string();
    assert!(text.contains("cannot download `file.gz`"), "{text}");
    assert_eq!(handle.join().unwrap().len(), 5);
    assert_eq!(
        std::fs::read(folder.path().join("file.gz.part")).unwrap(),
        &body()[..10]
    );
    assert!(!to.exists());
}

#[test]
fn another_file_than_expected_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file.gz");
    let (url, handle) = server(vec![whole(b"<html>log in</html>")]);
    let text = fetch(&url, Some(&sha256(&body())), &to, &silent)
        .unwrap_err()
        .to_string();
    handle.join().unwrap();
    assert!(
        text.contains("wrong SHA-256") && text.contains(&sha256(&body())),
        "{text}"
    );
    assert!(names(folder.path()).is_empty());
}

#[test]
fn failures_say_from_where_to_where_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file.gz");
    let (url, handle) = server(vec![reply(
        "404 Not Found",
        "Content-Length: 4\r\n",
        b"gone",
    )]);
    let not_found = fetch(&url, None, &to, &silent).unwrap_err().to_string();
    handle.join().unwrap();
    assert!(not_found.contains("404 Not Found"), "{not_found}");
    // Nobody listens there, and no other test can.
    let nowhere = "http://127.0.0.1:1/set/file.gz";
    let refused = fetch(nowhere, None, &to, &silent).unwrap_err();
    assert!(
        refused
            .source()
            .is_some_and(|source| source.is::<ureq::Error>())
    );
    let refused = refused.to_string();
    for (text, url) in [(not_found, url.as_str()), (refused, nowhere)] {
        for expected in [
            "cannot download `file.gz`",
            url,
            to.to_str().unwrap(),
            "`root=…`",
            "by hand",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
    assert!(names(folder.path()).is_empty());
}
