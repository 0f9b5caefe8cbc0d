//! Servers and clients that are asked to stop.

use super::support::{Folder, head, teacher, until};
use std::io::Write;
use std::process::Child;

fn stop(child: &mut Child, signal: i32) -> Option<i32> {
    // SAFETY: a signal to a process that this test started and has not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    child.wait().unwrap().code()
}

/// A server ends although clients wait for its news, with the code of an interrupted run; what it
/// has stays.
#[test]
fn server() {
    let folder = Folder::new(2);
    let token = folder.client("a");
    let mut host = folder.serve(&[]);
    host.enrol(&token, 100);
    assert_eq!(host.upload(&token, &teacher(1))["status"], "accepted");
    let mut idle = host.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        .unwrap();
    let mut waiting = host.connect();
    let text = head(&token, "GET", "/v1/next?wait=60", &[]);
    waiting.write_all(text.as_bytes()).unwrap();
    assert_eq!(stop(&mut host.child, libc::SIGTERM), Some(130));
    let host = folder.serve(&[]);
    let next = host.get(&token, "/v1/next").json();
    assert_eq!(next["upload"]["status"], "accepted");
}

/// A server ends although all its connections are in use.
#[test]
fn server_without_a_free_connection() {
    let folder = Folder::new(2);
    let mut host = folder.serve(&["--connections", "1"]);
    let mut only = host.connect();
    only.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    let mut waiting = host.connect();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    assert_eq!(stop(&mut host.child, libc::SIGTERM), Some(130));
}

/// A client that waits for the student ends at once, and the same command waits again.
#[test]
fn client() {
    let folder = Folder::new(2);
    let file = folder.file("teacher.safetensors", teacher(1));
    let (host, token) = (folder.serve(&[]), folder.client("a"));
    for name in ["first.log", "second.log"] {
        let mut join = host.join(&token, &file, &[]);
        let log = std::fs::File::create(folder.path(name)).unwrap();
        let mut join = join.stderr(log).spawn().unwrap();
        let said = || std::fs::read_to_string(folder.path(name)).unwrap();
        until(|| said().contains("1 of 2 uploads accepted"));
        assert_eq!(stop(&mut join, libc::SIGINT), Some(130), "{}", said());
    }
}
