//! The journal: what it holds survives, and whatever happened to the file is found.

use fed_distill::network::journal::Journal;
use fed_distill::network::state::Event;
use std::path::Path;

/// Events with and without fields, and a name that JSON escapes.
fn events() -> Vec<Event> {
    vec![
        Event::Began {
            task: "a\"\u{1}é".into(),
        },
        Event::Extended { until: 7 },
        Event::Resumed,
        Event::Closed {
            uploads: vec!["x".into(), "y".into()],
        },
    ]
}

fn written(path: &Path) -> Vec<u8> {
    let (mut journal, none) = Journal::open::<Event>(path).unwrap();
    assert!(none.is_empty());
    for event in events() {
        journal.append(&event).unwrap();
    }
    std::fs::read(path).unwrap()
}

/// A crash may end the file at any byte: the whole lines before it are there, and what is appended
/// afterwards follows them.
#[test]
fn torn_at_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let bytes = written(&path);
    for length in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let (mut journal, found) = Journal::open::<Event>(&path).unwrap();
        let whole = bytes[..length]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        assert_eq!(found, events()[..whole]);
        journal.append(&Event::Resumed).unwrap();
        drop(journal);
        let (_, found) = Journal::open::<Event>(&path).unwrap();
        assert_eq!(found, [&events()[..whole], &[Event::Resumed]].concat());
    }
}

/// Every other change of a byte is an error that names the line. Only a change of the last line end
/// looks as if a crash had left half a line.
#[test]
fn changed_bytes_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let bytes = written(&path);
    let lines = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x15;
        std::fs::write(&path, &damaged).unwrap();
        let number = 1 + lines(&bytes[..at]);
        match Journal::open::<Event>(&path) {
            Ok((_, found)) => {
                assert_eq!(at, bytes.len() - 1);
                assert_eq!(found, events()[..lines(&bytes) - 1]);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(
                    error.contains(&format!("journal.jsonl:{number}")),
                    "{error}"
                );
                assert!(error.contains("hint: "), "{error}");
            }
        }
    }
}

/// A power cut can leave a file of the right length whose last block was never written.
#[test]
fn zeros_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let bytes = written(&path);
    let line = b"\0\0\0\0\"}\n";
    std::fs::write(&path, [&bytes, &line[..]].concat()).unwrap();
    let (_, found) = Journal::open::<Event>(&path).unwrap();
    assert_eq!(found, events());
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

/// Lines that are whole but not where they were written: removed, repeated, exchanged.
#[test]
fn lines_out_of_place_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let text = String::from_utf8(written(&path)).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let cases = [
        vec![0, 2, 3],
        vec![0, 1, 1, 2, 3],
        vec![1, 0, 2, 3],
        vec![1, 2, 3],
    ];
    for order in cases {
        let text: String = order.iter().map(|&line| lines[line]).collect();
        std::fs::write(&path, text).unwrap();
        let error = Journal::open::<Event>(&path).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{order:?}: {error}");
    }
}
