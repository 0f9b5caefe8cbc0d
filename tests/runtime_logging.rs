//! The log: lines on stderr for the user, stamped lines in files for as long as their guard lives.

use fed_distill::runtime::logging;
use std::process::{Command, Output};

const CHILD: &str = "FED_DISTILL_TEST_CHILD";

/// Runs the test `name` of this file in a child process with `FED_DISTILL_LOG` set to `level`.
fn child(name: &str, level: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .env("FED_DISTILL_LOG", level)
        .output()
        .unwrap()
}

#[test]
fn lines_on_stderr_are_plain() {
    if std::env::var_os(CHILD).is_some() {
        match logging::init() {
            Ok(()) => logging::init().expect("a second call is fine"),
            Err(error) => return eprintln!("{error}"),
        }
        tracing::error!("it broke");
        tracing::warn!("it may break");
        tracing::info!(images = 5, "it works");
        tracing::debug!("it ticks");
        return;
    }
    let said = |level| String::from_utf8(child("lines_on_stderr_are_plain", level).stderr).unwrap();
    assert_eq!(
        said(""),
        "error: it broke\nwarning: it may break\nit works images=5\n"
    );
    assert_eq!(said("error"), "error: it broke\n");
    assert!(said("debug").ends_with("debug: it ticks\n"));
    let wrong = said("loud");
    assert!(
        wrong.contains("FED_DISTILL_LOG is `loud`") && wrong.contains("off, error, warn"),
        "{wrong}"
    );
}

#[test]
fn a_file_gets_what_is_logged_until_its_guard_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/run.log");
    tracing::info!("before");
    let guard = logging::to_file(&path).unwrap();
    tracing::warn!("while");
    drop(guard);
    tracing::info!("after");
    let again = logging::to_file(&path).unwrap();
    tracing::info!("again");
    drop(again);

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let expected = [" WARN  while", " INFO  after", " INFO  again"];
    for (line, ending) in lines.iter().zip(expected) {
        let (stamp, rest) = line.split_at(25);
        assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert_eq!(rest, ending);
    }

    let silent = folder.path().join("silent.log");
    drop(logging::to_file(&silent).unwrap());
    assert!(!silent.exists(), "nothing was logged");
    let broken = logging::to_file(&silent).unwrap();
    broken.failed(&fed_distill::Error::failed("it broke"));
    drop(broken);
    let text = std::fs::read_to_string(&silent).unwrap();
    assert!(text.ends_with(" ERROR it broke\n"), "{text}");
}
